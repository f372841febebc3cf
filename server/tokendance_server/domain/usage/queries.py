"""Usage summed up and listed for its readers, each within the caller's scope."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import errors_pb2
from tokendance_server.domain.clock import Clock
from tokendance_server.domain.names import ANY_ORGANIZATION, child_name, organization_name, organization_of, tenant_of
from tokendance_server.domain.page_tokens import PageTokens
from tokendance_server.domain.principals import Principal
from tokendance_server.domain.scopes import in_scope, is_platform_admin, member_id, reads_all
from tokendance_server.domain.usage.drain import Drain
from tokendance_server.domain.usage.entries import FinishedEntry
from tokendance_server.domain.usage.store import DAY_US, Group, Grouping, Sums, UsageFilter, UsageStore

MONTH_US = -1
"""Stands for calendar months, which have no one length, where an interval is asked for."""

MOST_GROUPS = 100_000
"""More groups than these are in no answer."""

_DEFAULT_SPAN_US = 30 * DAY_US
_DEFAULT_ROWS = 1000
_DEFAULT_RECORDS = 100
_MOST_COUNTED = 100_000
_SETTLED_US = 5_000_000
"""Nodes write what ended within a second where the database is there; this is believed to be enough for all."""

_ORGANIZATION = "organization_id"
_CHILDREN = {"key_id": "keys", "member_id": "members", "team_id": "teams"}


@dataclass(frozen=True, slots=True)
class Question:
    """Whose usage, of what time, and which page of it.

    Times are in microseconds since 1970; None: by default. `binding` names everything that makes the question: a page
    token is good for the same question only.
    """

    parent: str
    wanted: UsageFilter
    start_us: int | None
    end_us: int | None
    page_size: int
    page_token: str
    binding: str


@dataclass(frozen=True, slots=True)
class Report:
    """A page of sums, and the sums of all pages. Values of subjects are resource names."""

    rows: Sequence[Group]
    next_page_token: str
    totals: Sums
    complete_until_us: int


@dataclass(frozen=True, slots=True)
class RecordPage:
    """A page of requests, newest first; `total` is 0 on all pages but the first."""

    entries: Sequence[FinishedEntry]
    next_page_token: str
    total: int


class UsageQueries:
    """Sums up and lists requests. What this node has not written down yet is written first."""

    def __init__(self, store: UsageStore, drain: Drain, tokens: PageTokens, clock: Clock) -> None:
        self._store = store
        self._drain = drain
        self._tokens = tokens
        self._clock = clock

    async def sum_up(
        self, caller: Principal, question: Question, groups: Sequence[Grouping], interval_us: int
    ) -> Report:
        """Sum up by groups and by intervals: 0, HOUR_US, DAY_US or MONTH_US. Rows come by time, the largest first.

        Raises not_found outside the caller's scope, and invalid_request for a time that ends before it begins and for
        more than MOST_GROUPS groups.
        """
        wanted = _scoped(caller, question)
        now_us = self._now_us()
        start_us, end_us, place = self._page(caller, question, now_us, _DEFAULT_SPAN_US)
        await self._drain.flush()
        # A key's name has its organization in it, so that is summed up by, too: a key has one only.
        named = any(one.column in _CHILDREN for one in groups)
        asked = [*groups, Grouping(_ORGANIZATION)] if named else groups
        found = await self._store.sum_up(
            wanted, start_us, end_us, asked, DAY_US if interval_us == MONTH_US else interval_us
        )
        if len(found) >= MOST_GROUPS:
            raise GatewayError(
                errors_pb2.ERROR_REASON_INVALID_REQUEST,
                f"This makes more than {MOST_GROUPS:,} rows; ask for less time, fewer groups or longer intervals.",
                param="group_by",
                origin="caller",
            )
        rows = _by_month(found) if interval_us == MONTH_US else found
        rows = [_with_names(one, groups) for one in rows] if named else rows
        rows = [_with_organizations(one, groups) for one in rows]
        rows.sort(key=lambda one: (one.bucket_us, -one.sums.requests, one.values))
        totals = Sums()
        for row in rows:
            totals.add(row.sums)
        offset = int(place) if place else 0
        size = question.page_size or _DEFAULT_ROWS
        token = ""
        if offset + size < len(rows):
            token = self._seal(caller, question, start_us, end_us, str(offset + size))
        return Report(rows[offset : offset + size], token, totals, min(end_us, now_us - _SETTLED_US))

    async def list(self, caller: Principal, question: Question) -> RecordPage:
        """Return a page of requests. Raises not_found outside the caller's scope, and invalid_request."""
        wanted = _scoped(caller, question)
        start_us, end_us, place = self._page(caller, question, self._now_us(), None)
        await self._drain.flush()
        size = question.page_size or _DEFAULT_RECORDS
        before = None
        if place:
            moment, _, record_id = place.partition("/")
            before = int(moment), record_id
        entries = await self._store.page(wanted, start_us, end_us, before, size + 1)
        total = 0 if before else await self._store.count(wanted, start_us, end_us, _MOST_COUNTED)
        token = ""
        if len(entries) > size:
            last = entries[size - 1]
            token = self._seal(caller, question, start_us, end_us, f"{last.request.start_us}/{last.id}")
        return RecordPage(entries[:size], token, total)

    def _now_us(self) -> int:
        return round(self._clock.now().timestamp() * 1_000_000)

    def _page(
        self, caller: Principal, question: Question, now_us: int, default_span_us: int | None
    ) -> tuple[int, int, str]:
        """Return from when to when, and the place in it. All pages of a list are of one time: it is in the token."""
        if question.page_token:
            start, end, place = self._tokens.open(question.page_token, _binding(caller, question)).split(" ", 2)
            return int(start), int(end), place
        end_us = now_us if question.end_us is None else question.end_us
        start_us = question.start_us
        if start_us is None:
            start_us = 0 if default_span_us is None else end_us - default_span_us
        if start_us >= end_us:
            raise GatewayError(
                errors_pb2.ERROR_REASON_INVALID_REQUEST,
                "start_time must be before end_time, which is now where none is given.",
                param="start_time",
                origin="caller",
            )
        return start_us, end_us, ""

    def _seal(self, caller: Principal, question: Question, start_us: int, end_us: int, place: str) -> str:
        return self._tokens.seal(f"{start_us} {end_us} {place}", _binding(caller, question))


def _binding(caller: Principal, question: Question) -> str:
    return f"{caller.name}\n{question.binding}"


def _scoped(caller: Principal, question: Question) -> UsageFilter:
    """Return the filter narrowed to what the caller may see. Raises not_found."""
    parent = question.parent
    organization_id = "" if parent in ("", ANY_ORGANIZATION) else organization_of(parent, "parent")
    if not organization_id and not is_platform_admin(caller):
        organization_id = tenant_of(caller.organization)
    if not in_scope(caller, organization_id):
        raise _nothing_here("parent")
    wanted = replace(question.wanted, organization_id=organization_id)
    if caller.key_id:
        if wanted.keys and set(wanted.keys) != {caller.key_id}:
            raise _nothing_here("filter.keys")
        return replace(wanted, keys=(caller.key_id,))
    if is_platform_admin(caller) or reads_all(caller, organization_id):
        return wanted
    return replace(wanted, seen_by=member_id(caller))


def _by_month(groups: Iterable[Group]) -> list[Group]:
    months: dict[tuple[int, tuple[str | int, ...]], Group] = {}
    for one in groups:
        day = datetime.fromtimestamp(one.bucket_us / 1_000_000, UTC)
        month_us = round(day.replace(day=1, hour=0, minute=0, second=0, microsecond=0).timestamp() * 1_000_000)
        month = months.setdefault((month_us, one.values), Group(month_us, one.values, Sums()))
        month.sums.add(one.sums)
    return list(months.values())


def _with_names(group: Group, groups: Sequence[Grouping]) -> Group:
    """Return a group whose last value, the organization, went into the names of the others."""
    *values, organization_id = group.values
    for place, one in enumerate(groups):
        collection = _CHILDREN.get(one.column)
        if collection and values[place]:
            values[place] = child_name(str(organization_id), collection, str(values[place]))  # type: ignore[arg-type]  # the three are collections
    return replace(group, values=tuple(values))


def _with_organizations(group: Group, groups: Sequence[Grouping]) -> Group:
    values = tuple(
        organization_name(str(value)) if one.column == _ORGANIZATION and value else value
        for one, value in zip(groups, group.values, strict=True)
    )
    return replace(group, values=values)


def _nothing_here(param: str) -> GatewayError:
    return GatewayError(
        errors_pb2.ERROR_REASON_NOT_FOUND,
        "There is nothing of this name among what you may see.",
        param=param,
        origin="caller",
    )
