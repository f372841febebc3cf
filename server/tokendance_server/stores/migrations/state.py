"""What schema a database has, and whether this version of the gateway may serve on it. Loads no Alembic."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from enum import Enum
from importlib.metadata import version

from sqlalchemy import Connection, inspect, text

from tokendance_server.stores.migrations import HEAD, VERSION_TABLE

_NUMBERS = re.compile(r"\d+(?:\.\d+)*")


class Verdict(Enum):
    """How a schema stands to a version of the gateway."""

    CURRENT = "current"
    """It is the one that this version reads and writes."""
    BEHIND = "behind"
    """It must be migrated before this version serves on it."""
    SERVED = "ahead"
    """It is a newer one, made so that this version may still serve on it."""
    REFUSED = "too_new"
    """It is a newer one, on which this version would do harm."""


@dataclass(frozen=True, slots=True)
class SchemaState:
    """The schema of a database: None for what it does not say, as an empty one does."""

    revision: str | None
    oldest_code_version: str | None

    def verdict(self, code_version: str, head: str = HEAD) -> Verdict:
        """Tell what a version of the gateway, which knows the schemas up to `head`, may do with it."""
        if self.oldest_code_version is not None and is_older(code_version, self.oldest_code_version):
            return Verdict.REFUSED
        if self.revision == head:
            return Verdict.CURRENT
        if self.revision is None or self.revision in known_before(head):
            return Verdict.BEHIND
        return Verdict.REFUSED if self.oldest_code_version is None else Verdict.SERVED


def known_before(head: str) -> frozenset[str]:
    """Return the revisions that lead to `head`: they are numbered without a gap."""
    return frozenset(f"{number:04}" for number in range(1, int(head)))


@functools.cache
def running_version() -> str:
    """Return the version of the gateway that runs."""
    return version("tokendance-gateway")


def is_older(one: str, other: str) -> bool:
    """Tell whether a version comes before another, by their numbers."""
    return _numbers(one) < _numbers(other)


def read_state(connection: Connection) -> SchemaState:
    """Return the schema of the database."""
    tables = inspect(connection)
    revision = oldest = None
    if tables.has_table(VERSION_TABLE):
        revision = connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar()  # noqa: S608 - ours
    if tables.has_table("schema_info"):
        oldest = connection.execute(text("SELECT oldest_code_version FROM schema_info")).scalar()
    return SchemaState(revision, oldest)


def _numbers(version: str) -> tuple[int, ...]:
    match = _NUMBERS.match(version)
    numbers = [int(part) for part in match[0].split(".")] if match else []
    while numbers and not numbers[-1]:
        numbers.pop()  # 1.0 and 1.0.0 are one version
    return tuple(numbers)
