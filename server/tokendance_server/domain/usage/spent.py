"""What was spent of limits before a counter was there, out of the requests that are kept."""

from __future__ import annotations

from collections.abc import Sequence

from tokendance_server.domain.names import tenant_of
from tokendance_server.domain.quota.claims import COST, INPUT, OUTPUT, REQUESTS, TOTAL_TOKENS, Row
from tokendance_server.domain.quota.counters import CountersUnavailableError
from tokendance_server.domain.usage.drain import Drain
from tokendance_server.domain.usage.store import Sums, UsageFilter, UsageStore

_FAR_US = 2**60


class UsageSpent:
    """Satisfies SpentSource. What the journal still holds is written down first, and so it counts."""

    def __init__(self, drain: Drain, store: UsageStore) -> None:
        self._drain = drain
        self._store = store

    async def spent(self, rows: Sequence[tuple[Row, float | None]]) -> Sequence[int]:
        """Return what was spent of each row since a time. Raises CountersUnavailableError."""
        try:
            await self._drain.flush()
            return [await self._spent(row, 0 if since is None else int(since * 1_000_000)) for row, since in rows]
        except Exception as exc:
            raise CountersUnavailableError(f"what was spent cannot be read ({type(exc).__name__})") from exc

    async def tell(self) -> None:
        """Write down what the journal still holds. Raises CountersUnavailableError."""
        try:
            await self._drain.flush()
        except Exception as exc:
            raise CountersUnavailableError(f"what was spent cannot be told ({type(exc).__name__})") from exc

    async def _spent(self, row: Row, start_us: int) -> int:
        total = Sums()
        for group in await self._store.sum_up(_filter(row), start_us, _FAR_US, [], 0):
            total.add(group.sums)
        metric = row.rule.metric
        if metric == TOTAL_TOKENS:
            return total.input_tokens + total.output_tokens
        # Refusals are charged to nobody; what is held by running requests is no part of what was spent.
        spent = {REQUESTS: total.charged, INPUT: total.input_tokens, OUTPUT: total.output_tokens}
        spent[COST] = total.cost_micros
        return spent.get(metric, 0)


def _filter(row: Row) -> UsageFilter:
    organization_id, below = tenant_of(row.subject), row.subject.split("/")[2:]
    kind, identity = below or ("", "")
    return UsageFilter(
        organization_id=organization_id,
        keys=(identity,) if kind == "keys" else (),
        members=(identity,) if kind == "members" else (),
        teams=(identity,) if kind == "teams" else (),
        models=(row.rule.model,) if row.rule.model else (),
    )
