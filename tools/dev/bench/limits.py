"""What limits cost a call: `python -m dev.bench.limits KIND CONCURRENCY [URL]` prints microseconds of CPU.

KIND is `off` (no limits are set), `memory` or `redis`: then one limit of each of four levels is met. A call reserves
and settles, and nothing else; the time is that of this process.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Mapping, Sequence

from tokendance_server.domain.clock import SystemClock
from tokendance_server.domain.keys.key import LimitRule
from tokendance_server.domain.quota.claims import CONCURRENT, COST, REQUESTS, TOTAL_TOKENS, Used
from tokendance_server.domain.quota.counters import Counters
from tokendance_server.domain.quota.limits import Limits, Subjects
from tokendance_server.domain.quota.reservations import Reservations
from tokendance_server.domain.quota.windows import DAY, MINUTE, MONTH
from tokendance_server.stores.memory_counters import MemoryCounters
from tokendance_server.stores.redis_counters import RedisCounters

_O = "organizations/org_bench"
_SUBJECTS = Subjects(f"{_O}/keys/key_1", f"{_O}/members/user_1", f"{_O}/teams/team_1", _O)
_MOST = 2**50
_CALLS = {"off": 40_000, "memory": 20_000, "redis": 4_000}
_USED = Used(100, 50, 70)


class _Rules:
    """One limit of each level, or none."""

    def __init__(self, *, any_limits: bool) -> None:
        self._any = any_limits

    async def limits(self, subjects: Sequence[str]) -> Mapping[str, Sequence[LimitRule]]:
        if not self._any:
            return {}
        rules = (
            LimitRule(REQUESTS, MINUTE, _MOST),
            LimitRule(TOTAL_TOKENS, DAY, _MOST),
            LimitRule(COST, MONTH, _MOST),
            LimitRule(CONCURRENT, 0, _MOST),  # type: ignore[arg-type]
        )
        return {subject: [rule] for subject, rule in zip(_SUBJECTS, rules, strict=True) if subject in subjects}


async def _measure(kind: str, concurrency: int, url: str) -> float:
    clock = SystemClock()
    counters: Counters = RedisCounters(url, "bench", deadline_s=5) if kind == "redis" else MemoryCounters(clock)
    reservations = Reservations(Limits(_Rules(any_limits=kind != "off")), counters, clock, _raise)

    async def calls(count: int) -> None:
        for _ in range(count):
            reservation = await reservations.reserve(
                _SUBJECTS,
                "sim",
                identity="req",
                input_tokens=100,
                output_tokens=200,
                least_output_tokens=16,
                input_cost=50,
                output_price=2000,
            )
            await reservation.settle(_USED)

    each = _CALLS[kind] // concurrency
    await asyncio.gather(*(calls(each // 10) for _ in range(concurrency)))
    before = time.process_time()
    await asyncio.gather(*(calls(each) for _ in range(concurrency)))
    spent = time.process_time() - before
    await reservations.close()
    return spent / (each * concurrency) * 1e6


def _raise(error: Exception) -> None:
    raise error


if __name__ == "__main__":
    print(asyncio.run(_measure(sys.argv[1], int(sys.argv[2]), *(sys.argv[3:] or [""]))))
