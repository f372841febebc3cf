"""Answers kept for a while, and reads that are shared."""

from __future__ import annotations

import asyncio

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import errors_pb2
from tokendance_server.domain.keys.cache import SharedReads, TimedCache


def test_a_value_is_kept_for_its_time_and_no_longer() -> None:
    """Age counts from when the value was true."""
    cache: TimedCache[int] = TimedCache(10, 5.0)
    cache.put(b"a", 1, since=100.0)
    assert cache.get(b"a", 104.9) == 1
    assert cache.get(b"a", 105.0) is None
    assert len(cache) == 0


def test_the_least_recently_used_goes_first_and_the_size_is_never_exceeded() -> None:
    """What is asked for stays."""
    cache: TimedCache[int] = TimedCache(3, 5.0)
    for number, key in enumerate((b"a", b"b", b"c")):
        cache.put(key, number, 0.0)
    assert cache.get(b"a", 1.0) == 0
    cache.put(b"d", 3, 0.0)
    assert len(cache) == 3
    assert cache.get(b"b", 1.0) is None
    assert [cache.get(key, 1.0) for key in (b"a", b"c", b"d")] == [0, 2, 3]


class _Source:
    """Something slow that counts how often it is asked."""

    def __init__(self) -> None:
        self.asked = 0
        self.gate = asyncio.Event()
        self.error: Exception | None = None

    async def load(self) -> str:
        self.asked += 1
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        return f"answer {self.asked}"


async def _all_waiting() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_those_who_ask_at_once_share_one_read() -> None:
    """A hundred misses are one question to the store."""
    source, reads = _Source(), SharedReads[str]()
    tasks = [asyncio.create_task(reads.read(b"a", source.load)) for _ in range(100)]
    await _all_waiting()
    source.gate.set()
    assert set(await asyncio.gather(*tasks)) == {"answer 1"}
    assert source.asked == 1
    assert await reads.read(b"a", source.load) == "answer 2"


async def test_different_things_are_read_apart() -> None:
    """One slow digest does not hold up another."""
    slow, quick, reads = _Source(), _Source(), SharedReads[str]()
    quick.gate.set()
    waiting = asyncio.create_task(reads.read(b"slow", slow.load))
    await _all_waiting()
    assert await reads.read(b"quick", quick.load) == "answer 1"
    slow.gate.set()
    assert await waiting == "answer 1"


async def test_one_who_waits_and_leaves_disturbs_nobody() -> None:
    """The others still get the answer of the one read."""
    source, reads = _Source(), SharedReads[str]()
    first, leaver, last = (asyncio.create_task(reads.read(b"a", source.load)) for _ in range(3))
    await _all_waiting()
    leaver.cancel()
    await _all_waiting()
    source.gate.set()
    assert [await first, await last] == ["answer 1", "answer 1"]
    assert leaver.cancelled()


async def test_where_the_reader_leaves_another_takes_over() -> None:
    """A caller that hangs up does not fail the others."""
    source, reads = _Source(), SharedReads[str]()
    reader, second, third = (asyncio.create_task(reads.read(b"a", source.load)) for _ in range(3))
    await _all_waiting()
    reader.cancel()
    await _all_waiting()
    source.gate.set()
    assert [await second, await third] == ["answer 2", "answer 2"]
    assert source.asked == 2


async def test_a_failed_read_fails_everybody_once_each_with_an_error_of_their_own() -> None:
    """An error object is changed on its way out (it gets the request id), so it is never shared."""
    source, reads = _Source(), SharedReads[str]()
    source.error = RuntimeError("disk")
    tasks = [asyncio.create_task(reads.read(b"a", source.load)) for _ in range(4)]
    await _all_waiting()
    source.gate.set()
    first, *others = await asyncio.gather(*tasks, return_exceptions=True)
    assert first is source.error
    assert source.asked == 1
    assert all(isinstance(other, GatewayError) and other.code == "internal_error" for other in others)
    assert len({id(other) for other in others}) == 3
    source.error = None
    assert await reads.read(b"a", source.load) == "answer 2"


async def test_those_who_wait_for_a_refused_read_are_told_the_same_reason() -> None:
    """Whether a repeat may help is true for all of them."""
    source, reads = _Source(), SharedReads[str]()
    source.error = GatewayError(errors_pb2.ERROR_REASON_KEY_STORE_UNAVAILABLE, "Keys cannot be looked up now.")
    tasks = [asyncio.create_task(reads.read(b"a", source.load)) for _ in range(3)]
    await _all_waiting()
    source.gate.set()
    errors = await asyncio.gather(*tasks, return_exceptions=True)
    assert [error.code for error in errors if isinstance(error, GatewayError)] == ["key_store_unavailable"] * 3
    assert len({id(error) for error in errors}) == 3


async def test_none_is_an_answer_like_any_other() -> None:
    """Those who wait for an unknown secret do not ask again one after the other."""
    asked, gate, reads = [], asyncio.Event(), SharedReads[str | None]()

    async def nothing() -> None:
        asked.append(1)
        await gate.wait()

    tasks = [asyncio.create_task(reads.read(b"a", nothing)) for _ in range(5)]
    await _all_waiting()
    gate.set()
    assert await asyncio.gather(*tasks) == [None] * 5
    assert len(asked) == 1


def test_a_group_is_forgotten_as_one() -> None:
    """Whatever became of its values before, and without a trace."""
    cache: TimedCache[int] = TimedCache(3, 10)
    for key, group in ((b"a", "x"), (b"b", "x"), (b"c", "y")):
        cache.put(key, 1, 0, group)
    cache.drop("x")
    cache.drop("none")
    assert [cache.get(key, 0) for key in (b"a", b"b", b"c")] == [None, None, 1]
    cache.put(b"c", 2, 0, "z")
    cache.drop("y")
    assert cache.get(b"c", 0) == 2
    for key in (b"d", b"e", b"f"):
        cache.put(key, 1, 0, "z")
    assert cache.get(b"d", 10) is None
    cache.put(b"g", 1, 0)
    cache.drop("z")
    assert (len(cache), cache._groups) == (1, {})
    cache.put(b"h", 1, 0, "h")
    cache.clear()
    assert (len(cache), cache._groups) == (0, {})
