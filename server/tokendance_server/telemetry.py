"""Logs and metrics: one structured line a request, and figures whose label values are bounded."""

from __future__ import annotations

import asyncio
import atexit
import logging
import sys
from collections import deque
from collections.abc import Callable, MutableMapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, TextIO, cast

import orjson
import structlog
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
)

_LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}
_LATENCY_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
_UPSTREAM_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)

OTHER_MODEL = "other"
"""The label of every model name that is not in the catalogue: callers cannot make new label values."""


def configure_logging(level: str, stream: TextIO = sys.stderr) -> None:
    """Send structured JSON lines at `level` (`debug`, `info`, `warning`, `error`) or above to `stream`.

    Libraries log through the standard library; their warnings come out in the same form. Prompts, answers and
    secrets are never passed to a logger.
    """
    number = _LEVELS[level]
    structlog.configure(
        processors=[_render],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=_LineWriters(stream),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(_LibraryFormatter())
    handler.addFilter(_is_news)
    logging.basicConfig(level=max(number, logging.WARNING), handlers=[handler], force=True)


class _LineWriters:
    """Makes the loggers of one stream, which is the same for all."""

    def __init__(self, stream: TextIO) -> None:
        self._writer = _LineWriter(stream)

    def __call__(self, *_: Any) -> _LineWriter:
        return self._writer


class _LineWriter:
    """Writes what is logged in one turn of the event loop at once, and at once where no loop runs."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lines: deque[str] = deque()
        self._due_in: asyncio.AbstractEventLoop | None = None
        # What a loop that ended had put off.
        atexit.register(self._write)

    def msg(self, line: str) -> None:
        """Log a line."""
        self._lines.append(line)
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self._write()
            return
        if self._due_in is not loop:
            self._due_in = loop
            loop.call_soon(self._write)

    def urgent(self, line: str) -> None:
        """Log a line that is out before anything else happens, with all that waited."""
        self._lines.append(line)
        self._write()

    debug = info = warning = log = msg
    error = critical = exception = fatal = urgent

    def _write(self) -> None:
        self._due_in = None
        lines = self._lines
        # One by one: other threads may write, too, and none may write a line twice.
        told = []
        while lines:
            with suppress(IndexError):
                told.append(lines.popleft())
        if told:
            self._stream.write("\n".join(told) + "\n")
            self._stream.flush()


def logger() -> structlog.typing.FilteringBoundLogger:
    """Return the logger of the server."""
    return cast("structlog.typing.FilteringBoundLogger", structlog.get_logger())


def new_registry() -> CollectorRegistry:
    """Return the registry of one process, with the figures of the process itself.

    What the node is made of is not told, and no series tells when another one began.
    """
    disable_created_metrics()  # type: ignore[no-untyped-call]  # the library gives it no types
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    return registry


class Metrics:
    """The server's figures. `model` labels are ids of the catalogue or `other`; `code` labels are stable codes."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.requests = Counter(
            "tokendance_requests", "Calls ended, by surface, model and code.", ["surface", "model", "code"],
            registry=registry,
        )  # fmt: skip
        self.in_flight = Gauge("tokendance_requests_in_flight", "Calls running now.", ["surface"], registry=registry)
        self.added = Histogram(
            "tokendance_added_latency_seconds",
            "Time to the answer (of a stream: to its first message) that the gateway itself took.",
            ["surface"],
            buckets=_LATENCY_BUCKETS,
            registry=registry,
        )
        self.upstream = Histogram(
            "tokendance_upstream_latency_seconds",
            "Time that upstreams took to the answer, or to the first event of a stream.",
            ["model"],
            buckets=_UPSTREAM_BUCKETS,
            registry=registry,
        )


def show_loop_lag(registry: CollectorRegistry, read: Callable[[], float]) -> None:
    """Export how late the event loop runs what is due, in seconds, as `read` tells whenever somebody looks."""
    Gauge(
        "tokendance_event_loop_lag_seconds",
        "How late the event loop runs what is due, smoothed over half a second.",
        registry=registry,
    ).set_function(read)


class UsageFigures:
    """What is told of usage on its way to the database. `backlog` and `journal_bytes` are asked when somebody looks."""

    def __init__(
        self, registry: CollectorRegistry, backlog: Callable[[], float], journal_bytes: Callable[[], float]
    ) -> None:
        Gauge(
            "tokendance_usage_backlog", "Requests that ended and are not in the database yet.", registry=registry
        ).set_function(backlog)
        Gauge("tokendance_journal_bytes", "Bytes in the files of the usage journal.", registry=registry).set_function(
            journal_bytes
        )
        self.refused = Counter(
            "tokendance_usage_refused", "Requests that the database never took and that were put aside.",
            registry=registry,
        )  # fmt: skip


class DrainedAnswers:
    """Counts the answers that were read on after their callers had left. Satisfies the drainer's Figures."""

    def __init__(self, registry: CollectorRegistry) -> None:
        ended = Counter(
            "tokendance_drained_answers",
            "Answers of upstreams read on after their callers had left, by how they ended: complete or cut.",
            ["ended"],
            registry=registry,
        )
        self._complete = ended.labels("complete")
        self._cut = ended.labels("cut")

    def ended(self, *, complete: bool) -> None:
        """Count one answer."""
        (self._complete if complete else self._cut).inc()


def _is_news(record: logging.LogRecord) -> bool:
    """Tell a library's warning from gRPC's stack for each caller that leaves while its answer is being sent."""
    kind = record.exc_info[0] if record.exc_info else None
    return kind is None or kind.__name__ != "ExecuteBatchError"


def _render(log: Any, method: str, event: MutableMapping[str, Any]) -> str:
    """Return a line with its level and time: what four steps of structlog would do, for less."""
    structlog.processors.add_log_level(log, method, event)
    event["timestamp"] = datetime.now(UTC)
    if "exc_info" in event:
        structlog.processors.format_exc_info(log, method, event)
    return _dumps(event)


class _LibraryFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line: MutableMapping[str, Any] = {
            "event": record.getMessage(),
            "level": record.levelname.lower(),
            "logger": record.name,
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return _dumps(line)


def _dumps(value: Any, **_: Any) -> str:
    return orjson.dumps(value, default=str, option=orjson.OPT_UTC_Z).decode()
