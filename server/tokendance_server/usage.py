"""The usage of a node, wired: its journal, its ledger and what is learnt of sizes."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from prometheus_client import CollectorRegistry

from tokendance_server.config import UsageSettings
from tokendance_server.domain.clock import Clock
from tokendance_server.domain.keys.secrets import PepperRing
from tokendance_server.domain.page_tokens import PageTokens
from tokendance_server.domain.usage.drain import Drain
from tokendance_server.domain.usage.entries import FinishedEntry, unknown
from tokendance_server.domain.usage.estimates import Estimates
from tokendance_server.domain.usage.ledger import Ledger
from tokendance_server.domain.usage.queries import UsageQueries
from tokendance_server.domain.usage.reading import UsageReader
from tokendance_server.domain.usage.refusals import TurnedAway
from tokendance_server.domain.usage.spent import UsageSpent
from tokendance_server.domain.usage.store import DAY_US
from tokendance_server.providers.tokenizer import ExactTokenizer
from tokendance_server.startup import StartupError
from tokendance_server.stores.journal import FileJournal, FsyncMode
from tokendance_server.stores.journal_files import JOURNAL_FOLDER, Found, JournalInUseError
from tokendance_server.stores.sql.database import Database
from tokendance_server.stores.sql.usage import SqlUsageStore
from tokendance_server.stores.usage_aside import AsideFile
from tokendance_server.telemetry import UsageFigures, logger


@dataclass(frozen=True, slots=True)
class UsageParts:
    """What meters calls. It must be started, so that what is finished reaches the database."""

    ledger: Ledger
    store: SqlUsageStore
    drain: Drain
    spent: UsageSpent
    journal: FileJournal
    estimates: Estimates
    reader: UsageReader
    turned_away: TurnedAway
    queries: UsageQueries

    def start(self) -> None:
        """Drain the journal into the database until `close`."""
        self.drain.start()

    async def close(self) -> None:
        """Write down what waits; what the database does not take now stays in the journal."""
        await self.drain.close()
        await self.journal.close()


def open_usage(
    config: UsageSettings,
    data_dir: Path,
    node_id: str,
    database: Database,
    *,
    peppers: PepperRing,
    clock: Clock,
    registry: CollectorRegistry,
) -> UsageParts:
    """Take the journal of a data directory, with what an earlier process left in it. Raises StartupError."""
    folder = data_dir / JOURNAL_FOLDER
    try:
        journal = FileJournal(folder, config.journal_bytes, FsyncMode(config.fsync))
    except JournalInUseError as exc:
        raise StartupError(f"The usage journal in {data_dir} is in use: {exc}.") from exc
    except OSError as exc:
        raise StartupError(f"The usage journal in {data_dir} cannot be used ({exc.strerror}).") from exc
    ledger = Ledger(journal, node_id, _now_us, _tell)
    found = journal.found
    if found.finished or found.running:
        ledger.restore([*found.finished, *map(unknown, found.running)])
        logger().info("journal_replayed", finished=len(found.finished), unknown=len(found.running))
        # The ledger has it now, in less memory.
        journal.found = Found()
    store = SqlUsageStore(database)
    figures = UsageFigures(registry, lambda: ledger.backlog, lambda: journal.size)

    def tell_aside(entry: FinishedEntry, why: str) -> None:
        figures.refused.inc()
        logger().error("usage_refused", record=entry.id, request_id=entry.request.request_id, detail=why)

    drain = Drain(
        ledger,
        store,
        _tell_drain,
        aside=AsideFile(folder, tell_aside),
        report_prune=_tell_prune,
        keep_records_us=config.keep_records_days * DAY_US,
        keep_hours_us=config.keep_hours_days * DAY_US,
    )
    queries = UsageQueries(store, drain, PageTokens(peppers.derive("page tokens of usage")), clock)
    turned_away = TurnedAway(node_id, clock)
    return UsageParts(
        ledger=ledger,
        store=store,
        drain=drain,
        spent=UsageSpent(drain, store),
        journal=journal,
        estimates=Estimates(_tokenizer(config)),
        reader=UsageReader(store, drain, turned_away),
        turned_away=turned_away,
        queries=queries,
    )


def _tokenizer(config: UsageSettings) -> ExactTokenizer | None:
    if not config.tokenizers:
        return None
    try:
        return ExactTokenizer(config.tokenizers)
    except ValueError as exc:
        raise StartupError(f"[server.usage.tokenizers]: {exc}.") from exc


def _now_us() -> int:
    return time.time_ns() // 1000


def _tell(problem: str) -> None:
    logger().error("journal_not_written", detail=problem)


def _tell_drain(error: Exception | None) -> None:
    if error is None:
        logger().info("usage_drained_again")
    else:
        logger().error("usage_not_drained", error=type(error).__name__, detail=str(error))


def _tell_prune(error: Exception | None) -> None:
    if error is None:
        logger().info("usage_pruned_again")
    else:
        logger().error("usage_not_pruned", error=type(error).__name__, detail=str(error))
