"""What usage asks of a store: rows of requests and attempts, and sums by hour and by day."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import msgspec

from tokendance.gateway.v1 import errors_pb2, usage_pb2
from tokendance_server.domain.usage.entries import FinishedEntry

HOUR_US = 3_600_000_000
DAY_US = 24 * HOUR_US

SUMMED = (
    "key_id",
    "member_id",
    "team_id",
    "organization_id",
    "model",
    "provider_label",
    "surface",
    "outcome",
    "reason",
)
"""What sums are kept by, besides the time and `client_kind`; these names are columns."""

MEASURES = (
    "requests",
    "succeeded",
    "refused",
    "failed",
    "charged",
    "input_tokens",
    "cached_input_tokens",
    "cache_write_tokens",
    "output_tokens",
    "reasoning_tokens",
    "cost_micros",
    "unpriced",
    "estimated",
    "first_byte_us",
    "first_bytes",
    "total_us",
    "ended",
)
"""What is summed up; `charged` are requests that limits count (`is_charged`), `first_bytes` and `ended` the terms."""


class Sums(msgspec.Struct):
    """Sums over requests, one for each of MEASURES."""

    requests: int = 0
    succeeded: int = 0
    refused: int = 0
    failed: int = 0
    charged: int = 0
    input_tokens: int = 0
    cached_input_tokens: int = 0
    cache_write_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    cost_micros: int = 0
    unpriced: int = 0
    estimated: int = 0
    first_byte_us: int = 0
    first_bytes: int = 0
    total_us: int = 0
    ended: int = 0

    def add(self, other: Sums) -> None:
        """Add other sums to these."""
        for name in MEASURES:
            setattr(self, name, getattr(self, name) + getattr(other, name))


@dataclass(frozen=True, slots=True)
class UsageFilter:
    """Which requests count; what is empty does not narrow it. Subjects are ids.

    `seen_by` narrows it to keys of one member and of the teams `seen_teams`; None: everything of the organization.
    """

    organization_id: str = ""
    keys: Sequence[str] = ()
    members: Sequence[str] = ()
    teams: Sequence[str] = ()
    models: Sequence[str] = ()
    outcomes: Sequence[int] = ()
    surfaces: Sequence[int] = ()
    users: Sequence[str] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    seen_by: str | None = None
    seen_teams: frozenset[str] = frozenset()

    @property
    def needs_records(self) -> bool:
        """Tell whether sums do not know what is asked for."""
        return bool(self.users or self.labels)


@dataclass(frozen=True, slots=True)
class Grouping:
    """One column to group by; `label` is the label whose values make the groups, where the column is `labels`."""

    column: str
    label: str = ""


@dataclass(frozen=True, slots=True)
class Group:
    """The sums of one group. `bucket_us` is when its interval begins, 0 where there are none."""

    bucket_us: int
    values: tuple[str | int, ...]
    sums: Sums


class EntryRefusedError(Exception):
    """The database works, and takes one of these requests never: what is in it fits no row."""


class UsageStore(Protocol):
    """Keeps what was used."""

    async def insert(self, entries: Sequence[FinishedEntry]) -> int:
        """Write requests, their attempts and their sums down, in one step; return how many were new.

        A request that is there already is passed over, and counts in no sum again. Raises EntryRefusedError, and then
        none of them is written.
        """

    async def sum_up(
        self, wanted: UsageFilter, start_us: int, end_us: int, groups: Sequence[Grouping], interval_us: int
    ) -> list[Group]:
        """Sum up the requests that began in [start, end), in no order. `interval_us` is 0, HOUR_US or DAY_US."""

    async def page(
        self, wanted: UsageFilter, start_us: int, end_us: int, before: tuple[int, str] | None, limit: int
    ) -> list[FinishedEntry]:
        """Return at most `limit` requests that began in [start, end) and before a place (time, id), newest first."""

    async def count(self, wanted: UsageFilter, start_us: int, end_us: int, most: int) -> int:
        """Return how many requests `page` has in all, or `most` where there are more."""

    async def find(self, name: str, organization_id: str, limit: int) -> list[FinishedEntry]:
        """Return the newest requests of a billing id or of an id that callers saw; an empty organization means any."""

    async def prune(self, records_before_us: int, hours_before_us: int, limit: int) -> int:
        """Remove at most `limit` rows of each kind that began before a time, the oldest first; return how many."""

    async def pseudonymise(self, organization_id: str, member_id: str, pseudonym: str) -> None:
        """Put a pseudonym in a member's place, in rows and sums, and remove what else tells who it was."""


def model_of(entry: FinishedEntry) -> str:
    """Return the model that a request counts for: what answered, or was asked for where nothing did.

    A name that no model has counts for none: callers would fill the sums with names.
    """
    if entry.served_model:
        return entry.served_model
    return "" if entry.reason == errors_pb2.ERROR_REASON_MODEL_NOT_FOUND else entry.request.requested_model


def is_charged(entry: FinishedEntry) -> bool:
    """Tell whether limits on requests count this one: an attempt was made, and did not fail before anything came."""
    counts = entry.counts
    failed = entry.outcome == usage_pb2.REQUEST_OUTCOME_FAILED
    return bool(entry.attempts) and not (failed and not counts.input_tokens and not counts.output_tokens)


def labels_of(entry: FinishedEntry) -> dict[str, str]:
    """Return the labels that a request counts for: the caller's, and the key's where the caller has none of a name."""
    return {**entry.request.key_labels, **entry.request.labels}
