"""The rows of the table: what each measures, beside what, and which budget the design gives it."""

from __future__ import annotations

import enum
from dataclasses import dataclass

# The budget for open streams is given for this many.
STREAMS = 2000


class Side(enum.Enum):
    """Who was measured."""

    YARDSTICK = "yardstick"
    NODE = "node"


@dataclass(frozen=True)
class Budget:
    """At most `limit`, and better `aim`: of the ratio to the yardstick, or absolute in the row's unit."""

    limit: float
    aim: float | None = None
    ratio: bool = True

    def __str__(self) -> str:
        unit = " x" if self.ratio else ""
        aim = "" if self.aim is None else f", aim {self.aim:g}{unit}"
        return f"≤ {self.limit:g}{unit}{aim}"


@dataclass(frozen=True)
class Row:
    """One row. `digits` are decimals worth showing."""

    name: str
    what: str
    unit: str
    yardstick: str
    budget: Budget | None = None
    digits: int = 0


ROWS = (
    Row("ready-first", "Start to ready, no data yet", "s", "json-proxy", Budget(1.5, ratio=False), 2),
    Row("ready-again", "Start to ready, again", "s", "json-proxy", Budget(1.5, ratio=False), 2),
    Row("memory-idle", "Resident memory, idle", "MB", "json-proxy", Budget(90, ratio=False)),
    Row("rest-cpu", "CPU of a REST chat completion", "µs", "json-proxy", Budget(1.0, 0.6)),
    Row("rest-rate", "REST chat completions on one core", "1/s", "json-proxy"),
    Row("latency-p50", "Added latency, median", "ms", "json-proxy", digits=2),
    Row("latency-p99", "Added latency, 99th percentile", "ms", "json-proxy", digits=2),
    Row("wrk-cpu", "CPU of a REST chat completion, by wrk", "µs", "json-proxy", Budget(1.0, 0.6)),
    Row("chunk-cpu", "CPU of a streamed chunk, one a packet", "µs", "byte-relay", Budget(1.3, 1.1), 1),
    Row("chunk8-cpu", "CPU of a streamed chunk, eight a packet", "µs", "byte-relay", Budget(1.3, 1.1), 1),
    Row("grpc-cpu", "CPU of a gRPC CreateCompletion", "µs", "empty-grpc", Budget(1.4)),
    Row("grpc-rate", "gRPC CreateCompletions on one core", "1/s", "empty-grpc"),
    Row("limits-memory", "CPU of four limits in memory", "µs", "no-limits", Budget(10, 6, ratio=False), 1),
    Row("limits-redis-1", "CPU of four limits in Redis, one call at a time", "µs", "no-limits", digits=1),
    Row("limits-redis-8", "CPU of four limits in Redis, 8 at once", "µs", "no-limits", digits=1),
    Row("limits-redis-32", "CPU of four limits in Redis, 32 at once", "µs", "no-limits", Budget(30, ratio=False), 1),
    Row("keys-warm", "CPU of finding a key at hand, of 100,000", "µs", "ten-keys", Budget(1.2), 2),
    Row("keys-cold", "CPU of finding a key in SQLite, of 100,000", "µs", "ten-keys"),
    Row("memory-streams", "Resident memory with the open streams", "MB", "byte-relay", Budget(250, ratio=False)),
)
