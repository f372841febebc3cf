"""What is read for pages is read once for everybody, and again when it is old."""

from __future__ import annotations

import asyncio

import grpc
import pytest

from tokendance_facade.pages.live import Kept


class Source:
    """Counts how often it is read; fails where it is told to."""

    def __init__(self) -> None:
        self.reads = 0
        self.value = "one"
        self.failing = False

    async def read(self) -> str:
        self.reads += 1
        await asyncio.sleep(0)
        if self.failing:
            raise grpc.RpcError
        return self.value


@pytest.fixture
def source() -> Source:
    """A source that works."""
    return Source()


async def test_a_crowd_reads_once(source: Source) -> None:
    """Whoever comes while it is read waits for the same reading."""
    kept = Kept(source.read, keep_s=60)
    assert await asyncio.gather(*(kept.get() for _ in range(50))) == ["one"] * 50
    assert source.reads == 1


async def test_what_was_dropped_is_read_again_and_counts_as_new_only_where_it_differs(source: Source) -> None:
    """So that pages are made anew only then."""
    kept = Kept(source.read, keep_s=60)
    await kept.get()
    version = kept.version
    kept.drop()
    assert await kept.get() == "one"
    assert (source.reads, kept.version) == (2, version)
    source.value = "two"
    kept.drop()
    assert await kept.get() == "two"
    assert kept.version == version + 1


async def test_what_cannot_be_read_is_none_for_as_long(source: Source) -> None:
    """A server that is away is not asked by every reader."""
    kept = Kept(source.read, keep_s=60)
    source.failing = True
    assert [await kept.get() for _ in range(10)] == [None] * 10
    assert source.reads == 1
    source.failing = False
    kept.drop()
    assert await kept.get() == "one"
