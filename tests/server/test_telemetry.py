"""Log lines: those of one turn of the event loop leave together, and none is lost or told twice."""

from __future__ import annotations

import asyncio
import io
import threading
from collections.abc import Iterator

import orjson
import pytest
import structlog

from tokendance_server.telemetry import configure_logging, logger


class _Stream(io.StringIO):
    """Counts its flushes."""

    flushes = 0

    def flush(self) -> None:
        self.flushes += 1


@pytest.fixture
def stream() -> Iterator[_Stream]:
    """Where the log goes."""
    before = structlog.get_config()
    told = _Stream()
    configure_logging("info", told)
    yield told
    structlog.configure(**before)


def _events(stream: _Stream) -> list[str]:
    return [orjson.loads(line)["event"] for line in stream.getvalue().splitlines()]


def test_without_a_loop_a_line_is_out_at_once(stream: _Stream) -> None:
    """Whoever starts a node reads why it does not, even where it ends the moment after."""
    logger().info("one", number=1)
    assert _events(stream) == ["one"]


async def test_lines_of_one_turn_leave_together(stream: _Stream) -> None:
    """In their order, in one write; and before anybody waits for anything."""
    for number in range(3):
        logger().warning(f"line {number}")
    assert _events(stream) == []
    await asyncio.sleep(0)
    assert _events(stream) == ["line 0", "line 1", "line 2"]
    assert stream.flushes == 1


async def test_another_thread_takes_what_waits_along(stream: _Stream) -> None:
    """Its own line included; the loop's turn then finds nothing left."""
    logger().info("of the loop")
    thread = threading.Thread(target=lambda: logger().info("of a thread"))
    thread.start()
    thread.join()
    assert _events(stream) == ["of the loop", "of a thread"]
    await asyncio.sleep(0)
    assert _events(stream) == ["of the loop", "of a thread"]


async def test_an_error_waits_for_nobody(stream: _Stream) -> None:
    """It is out at once, with what was logged before it: the process may not live to its next turn."""
    logger().info("before")
    logger().error("broken")
    assert _events(stream) == ["before", "broken"]


def test_what_a_loop_left_is_written_by_the_next(stream: _Stream) -> None:
    """A loop that is stopped in the turn of a line does not keep it, nor those behind it."""

    async def last_words() -> None:
        logger().info("last")

    loop = asyncio.new_event_loop()
    task = loop.create_task(last_words())
    task.add_done_callback(lambda _: loop.stop())
    loop.run_forever()
    loop.close()
    asyncio.run(last_words())
    assert _events(stream) == ["last", "last"]
