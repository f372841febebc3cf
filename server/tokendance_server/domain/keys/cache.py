"""Answers kept for a time, bounded in number and age, and one read for many who ask at once."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import errors_pb2

V = TypeVar("V")


class TimedCache(Generic[V]):
    """At most `size` values, each for at most `ttl_s` seconds; the least recently used goes first.

    Values belong to groups, which can be dropped at once.
    """

    def __init__(self, size: int, ttl_s: float) -> None:
        self._size = size
        self._ttl_s = ttl_s
        self._values: OrderedDict[bytes, _Held[V]] = OrderedDict()
        self._groups: dict[str, tuple[bytes, ...]] = {}

    def __len__(self) -> int:
        return len(self._values)

    def get(self, key: bytes, now: float) -> V | None:
        """Return a value that is still fresh at monotonic time `now`, or None."""
        held = self._values.get(key)
        if held is None:
            return None
        if held.until <= now:
            self._leave_group(key, self._values.pop(key))
            return None
        self._values.move_to_end(key)
        return held.value

    def put(self, key: bytes, value: V, since: float, group: str = "") -> None:
        """Keep a value that was true at monotonic time `since`; an empty group is none."""
        former = self._values.get(key)
        if former is not None:
            self._leave_group(key, former)
        self._values[key] = _Held(since + self._ttl_s, value, group)
        self._values.move_to_end(key)
        if group:
            self._groups[group] = (*self._groups.get(group, ()), key)
        if len(self._values) > self._size:
            self._leave_group(*self._values.popitem(last=False))

    def drop(self, group: str) -> None:
        """Forget the values of a group."""
        for key in self._groups.pop(group, ()):
            del self._values[key]

    def drop_where(self, unwanted: Callable[[V], bool]) -> None:
        """Forget the values of which `unwanted` is true. Looks at every value."""
        for key in [key for key, held in self._values.items() if unwanted(held.value)]:
            self._leave_group(key, self._values.pop(key))

    def clear(self) -> None:
        """Forget everything."""
        self._values.clear()
        self._groups.clear()

    def _leave_group(self, key: bytes, held: _Held[V]) -> None:
        if not held.group:
            return
        others = tuple(one for one in self._groups[held.group] if one != key)
        if others:
            self._groups[held.group] = others
        else:
            del self._groups[held.group]


class _Held(Generic[V]):
    __slots__ = ("group", "until", "value")

    def __init__(self, until: float, value: V, group: str) -> None:
        self.until = until
        self.value = value
        self.group = group


class SharedReads(Generic[V]):
    """Lets those who want the same thing at the same time wait for one read of it."""

    def __init__(self) -> None:
        self._running: dict[bytes, _Read[V]] = {}

    async def read(self, key: bytes, load: Callable[[], Awaitable[V]]) -> V:
        """Return what `load` returns, called by the first who asks while the others wait.

        One who waits and leaves disturbs nobody; where the one who reads leaves, another takes over. The error of the
        read goes to the reader, and one of the same reason (internal_error where it has none) to each of the others:
        an exception is not shared between calls.
        """
        while (running := self._running.get(key)) is not None:
            await running.ended.wait()
            if isinstance(running.error, GatewayError):
                raise GatewayError(running.error.reason, running.error.message) from running.error
            if running.error is not None:
                raise GatewayError(
                    errors_pb2.ERROR_REASON_INTERNAL_ERROR,
                    "The key could not be looked up; give the request id to support, or try again.",
                ) from running.error
            if running.values:
                return running.values[0]
        mine: _Read[V] = _Read()
        self._running[key] = mine
        try:
            value = await load()
        except Exception as exc:
            mine.error = exc
            raise
        else:
            mine.values.append(value)
            return value
        finally:
            del self._running[key]
            mine.ended.set()


class _Read(Generic[V]):
    def __init__(self) -> None:
        self.ended = asyncio.Event()
        self.values: list[V] = []
        self.error: Exception | None = None
