"""How long sums over many usage records take on PostgreSQL: `python -m dev.bench.usage_sums`.

The budget of the design: a million records, by day and model over 30 days, within 200 ms.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time
from collections.abc import Iterator

from rich.console import Console
from rich.progress import track
from rich.table import Table
from tests.servers import running_postgres

from tokendance.gateway.v1 import errors_pb2, usage_pb2
from tokendance_server.domain.usage.counts import Counts
from tokendance_server.domain.usage.entries import FinishedAttempt, FinishedEntry, OpenRequest
from tokendance_server.domain.usage.store import DAY_US, HOUR_US, Group, Grouping, UsageFilter
from tokendance_server.stores.sql.database import Database
from tokendance_server.stores.sql.usage import SqlUsageStore

_DAYS = 30
_END_US = 20_700 * DAY_US + DAY_US // 2
_BATCH = 500
_QUESTIONS = (
    ("day and model", [Grouping("model")], DAY_US, 200.0),
    ("key", [Grouping("key_id")], 0, None),
    ("hour and model", [Grouping("model")], HOUR_US, None),
)


def _entries(count: int) -> Iterator[list[FinishedEntry]]:
    """Give batches of requests of ten models and a hundred keys, evenly over the days before _END_US."""
    ok, counts = usage_pb2.REQUEST_OUTCOME_SUCCEEDED, Counts(100, 50)
    for first in range(0, count, _BATCH):
        batch = []
        for number in range(first, min(first + _BATCH, count)):
            at_us = _END_US - number * _DAYS * DAY_US // count - 1
            request = OpenRequest(
                request_id=f"req_{number:026}",
                start_us=at_us,
                organization_id="org_1",
                key_id=f"key_{number % 100}",
                member_id=f"user_{number % 20}",
                team_id=f"team_{number % 5}",
                surface=errors_pb2.SURFACE_CHAT,
            )
            attempt = FinishedAttempt(number=1, start_us=at_us, outcome=ok, counts=counts, cost_micros=7)
            batch.append(
                FinishedEntry(
                    id=f"rec_{number:022}",
                    node="node_1",
                    request=request,
                    outcome=ok,
                    end_us=at_us + 900_000,
                    served_model=f"model-{number % 10}",
                    counts=counts,
                    cost_micros=7,
                    attempts=(attempt,),
                )
            )
        yield batch


async def _measure(url: str, count: int, rounds: int) -> Table:
    console = Console(stderr=True)
    database = await Database.connect_postgresql(url)
    await database.migrate()
    await database.close()
    database = await Database.open_postgresql(url)
    store = SqlUsageStore(database)
    began = time.process_time()
    for batch in track(_entries(count), "records", total=-(-count // _BATCH), console=console):
        await store.insert(batch)
    cpu_us = (time.process_time() - began) / count * 1e6
    table = Table(title=f"{count:,} usage records on PostgreSQL; {cpu_us:.0f} µs of CPU to write one")
    for head in ("by", "rows", "best ms", "median ms", "budget"):
        table.add_column(head, justify="left" if head == "by" else "right")
    for name, groups, interval_us, budget in _QUESTIONS:
        taken: list[float] = []
        found: list[Group] = []
        for _ in range(rounds):
            before = time.perf_counter()
            found = await store.sum_up(
                UsageFilter(organization_id="org_1"), _END_US - _DAYS * DAY_US, _END_US, groups, interval_us
            )
            taken.append((time.perf_counter() - before) * 1000)
        if sum(one.sums.requests for one in found) != count:
            raise RuntimeError(f"the sums by {name} do not have every record")
        median = statistics.median(taken)
        shown = "" if budget is None else f"≤ {budget:g}: {'kept' if median <= budget else 'missed'}"
        table.add_row(name, f"{len(found):,}", f"{min(taken):.1f}", f"{median:.1f}", shown)
    await database.close()
    return table


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(prog="python -m dev.bench.usage_sums", description=__doc__)
    parser.add_argument("--records", type=int, default=1_000_000, help="how many to write first (default 1,000,000)")
    parser.add_argument("--rounds", type=int, default=7, help="how often each question is asked (default 7)")
    wanted = parser.parse_args()
    with running_postgres() as server, server.database() as url:
        Console().print(asyncio.run(_measure(url, wanted.records, wanted.rounds)))


if __name__ == "__main__":
    main()
