"""The connections of one node to its upstreams: which are open, and which of them wait for another request."""

from __future__ import annotations

import asyncio
from typing import NamedTuple

from tokendance_server.providers.lean.connection import Connection
from tokendance_server.providers.ways import Way

_IDLE_S = 15
_KEPT_PER_ORIGIN = 1024
_CLOSE_S = 2


class Origin(NamedTuple):
    """Where a connection leads, and which way: what two requests must have in common to share one."""

    tls: bool
    host: str
    port: int
    way: Way | None = None


class Pool:
    """Keeps free connections for `idle_s` seconds, at most `kept` for each origin; the freshest is used first."""

    def __init__(self, *, idle_s: float = _IDLE_S, kept: int = _KEPT_PER_ORIGIN) -> None:
        self._idle_s = idle_s
        self._kept_per_origin = kept
        self._open: dict[Connection, Origin] = {}
        # Dicts for their order and for removal at no cost; the last is the freshest.
        self._kept: dict[Origin, dict[Connection, None]] = {}
        self._sweep: asyncio.TimerHandle | None = None
        self._emptied: asyncio.Future[None] | None = None
        self._closed = False

    def open(self, origin: Origin) -> Connection:
        """Return a new connection of this pool, which is still to be connected."""
        connection = Connection(self._lost)
        self._open[connection] = origin
        return connection

    def forget(self, connection: Connection) -> None:
        """Drop one that could not be connected."""
        connection.abort()
        self._lost(connection)

    def take(self, origin: Origin) -> Connection | None:
        """Return a kept connection to an origin, or None."""
        kept = self._kept.get(origin)
        return kept.popitem()[0] if kept else None

    def give_back(self, connection: Connection) -> None:
        """End the exchange on a connection, and keep it where it may serve another."""
        origin = self._open.get(connection)
        if not connection.release() or origin is None:
            return
        kept = self._kept.setdefault(origin, {})
        if self._closed or len(kept) >= self._kept_per_origin:
            connection.abort()
            return
        loop = connection.loop
        connection.idle_since = loop.time()
        kept[connection] = None
        if self._sweep is None:
            self._sweep = loop.call_later(self._idle_s, self._drop_idle)

    @property
    def open_connections(self) -> int:
        """How many connections there are, kept or in use."""
        return len(self._open)

    async def close(self) -> None:
        """Close every connection, and wait until they are closed."""
        self._closed = True
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None
        for connection in list(self._open):
            connection.abort()
        if self._open:
            self._emptied = asyncio.get_running_loop().create_future()
            await asyncio.wait([self._emptied], timeout=_CLOSE_S)

    def _lost(self, connection: Connection) -> None:
        origin = self._open.pop(connection, None)
        if origin is None:
            return
        kept = self._kept.get(origin)
        if kept is not None:
            kept.pop(connection, None)
            if not kept:
                del self._kept[origin]
        if self._emptied is not None and not self._open and not self._emptied.done():
            self._emptied.set_result(None)

    def _drop_idle(self) -> None:
        """Close what has waited too long, and look again when the next one will have."""
        loop = asyncio.get_running_loop()
        self._sweep = None
        oldest: float | None = None
        for kept in list(self._kept.values()):
            for connection in list(kept):
                if loop.time() - connection.idle_since >= self._idle_s:
                    del kept[connection]
                    connection.abort()
                else:
                    # The first that stays is the oldest of its origin.
                    oldest = min(connection.idle_since, oldest or connection.idle_since)
                    break
        if oldest is not None:
            self._sweep = loop.call_at(oldest + self._idle_s, self._drop_idle)
