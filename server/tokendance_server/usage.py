"""The usage of a node, wired: its journal, its ledger, what is learnt of sizes, and the prices in force."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from tokendance_server.domain.clock import Clock
from tokendance_server.domain.prices.book import PriceBook
from tokendance_server.domain.usage.estimates import Estimates
from tokendance_server.domain.usage.ledger import Ledger
from tokendance_server.startup import StartupError
from tokendance_server.stores.journal import FileJournal
from tokendance_server.stores.journal_files import JournalInUseError
from tokendance_server.telemetry import logger

JOURNAL_FOLDER = "journal"
_CAPACITY = 256 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class UsageParts:
    """What meters calls."""

    ledger: Ledger
    journal: FileJournal
    estimates: Estimates
    prices: PriceBook


def open_usage(data_dir: Path, node_id: str, clock: Clock) -> UsageParts:
    """Take the journal of a data directory. Raises StartupError."""
    try:
        journal = FileJournal(data_dir / JOURNAL_FOLDER, _CAPACITY)
    except JournalInUseError as exc:
        raise StartupError(f"The usage journal in {data_dir} is in use: {exc}.") from exc
    except OSError as exc:
        raise StartupError(f"The usage journal in {data_dir} cannot be used ({exc.strerror}).") from exc
    ledger = Ledger(journal, node_id, _now_us, _tell)
    return UsageParts(ledger, journal, Estimates(), PriceBook(clock))


def _now_us() -> int:
    return time.time_ns() // 1000


def _tell(problem: str) -> None:
    logger().error("journal_not_written", detail=problem)
