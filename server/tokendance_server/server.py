"""A server that is wired: it starts to listen, ends well, and closes what it is made of."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import grpc
import grpc.aio

from tokendance_server.domain.catalogue.in_force import Catalogue
from tokendance_server.domain.changes import Watcher
from tokendance_server.domain.keys.running import RunningStreams
from tokendance_server.domain.status.board import Board
from tokendance_server.identity import Identity
from tokendance_server.listeners import Listener
from tokendance_server.nodes import NodeLook
from tokendance_server.providers.drainer import Drainer
from tokendance_server.providers.transport import Transport
from tokendance_server.services.admission import Admission
from tokendance_server.services.local_channel import LocalChannel
from tokendance_server.services.loop_lag import LoopLag
from tokendance_server.storage import Storage
from tokendance_server.stores.paths import DataDirectory
from tokendance_server.usage import UsageParts

# How long callers may take to hear the last words of calls that were ended.
_LAST_WORDS_S = 1.0


@dataclass(frozen=True, slots=True)
class FirstKey:
    """The key that the very first start makes, so that a new node can be called. The secret is not kept."""

    organization: str
    name: str
    secret: str


class Background(Protocol):
    """Does something besides the calls, from the node's start to its end."""

    def start(self) -> None:
        """Begin."""

    async def close(self) -> None:
        """Do what is left, and end; harmless where it was never started."""


class Server:
    """One server, wired and not yet listening."""

    def __init__(
        self,
        *,
        first_key: FirstKey | None,
        listeners: Sequence[Listener],
        channel: LocalChannel,
        admission: Admission,
        lag: LoopLag,
        watcher: Watcher,
        streams: RunningStreams,
        background: Sequence[Background],
        look: NodeLook,
        board: Board,
        usage: UsageParts,
        catalogue: Catalogue,
        transport: Transport,
        drainer: Drainer,
        identity: Identity,
        directory: DataDirectory,
        storage: Storage,
    ) -> None:
        self.first_key = first_key
        self._listeners = listeners
        self._channel = channel
        self._admission = admission
        self._lag = lag
        self._watcher = watcher
        self._streams = streams
        self._background = background
        self._look = look
        self._board = board
        self._usage = usage
        self._catalogue = catalogue
        self._transport = transport
        self._drainer = drainer
        self._identity = identity
        self._directory = directory
        self._storage = storage
        self._serving = False

    @property
    def ready(self) -> bool:
        """True while new calls are welcome: the node serves, may still do so, and sees what other nodes change."""
        return self._serving and self._watcher.healthy and self._storage.may_serve

    @property
    def grpc_address(self) -> str | None:
        """The TCP address as really bound, or None where the node has none."""
        return self._tcp_address(facades=False, public=False)

    @property
    def grpc_public_address(self) -> str | None:
        """Where callers outside of the trust zone connect, as really bound, or None where the node has no such one."""
        return self._tcp_address(facades=False, public=True)

    @property
    def facade_address(self) -> str | None:
        """Where facades with certificates connect, as really bound, or None where the node has no such address."""
        return self._tcp_address(facades=True, public=False)

    def _tcp_address(self, *, facades: bool, public: bool) -> str | None:
        wanted = (one for one in self._listeners if (one.facades, one.public) == (facades, public))
        return next((one.address for one in wanted if not one.address.startswith("unix:")), None)

    @property
    def facade_socket(self) -> Path:
        """Where a facade in another process connects."""
        return self._directory.facade_socket

    @property
    def admin_socket(self) -> Path:
        """Where the operator's commands connect."""
        return self._directory.admin_socket

    def local_channel(self) -> grpc.aio.Channel:
        """Return the channel for a facade in this process."""
        self._look.has_facade = True
        return self._channel

    async def start(self) -> None:
        """Follow the changes, and listen. Raises StartupError where an address is taken."""
        await self._catalogue.start()
        await self._watcher.start()
        for one in self._background:
            one.start()
        self._usage.start()
        for listener in self._listeners:
            await listener.start()
        self._lag.start()
        self._serving = True

    async def drain(self, grace_s: float) -> None:
        """Refuse new calls, let those that run end within `grace_s` seconds, and tell the rest why they end.

        The channel within the process stays open, for a facade that stops at the same time. May be repeated with less
        grace.
        """
        self._serving = False
        for listener in self._listeners:
            await listener.drain()
        self._admission.drain()
        # They would never leave by themselves.
        self._board.dismiss()
        # Their callers are told at once to go elsewhere; what runs is ended here, because only here it is told why.
        closing = [asyncio.create_task(one.stop(grace_s + 2 * _LAST_WORDS_S)) for one in self._listeners]
        try:
            await self._admission.emptied(grace_s)
            self._admission.end_all()
            await self._admission.emptied(_LAST_WORDS_S)
            # Sooner than above, because those who watch health never leave by themselves.
            await asyncio.gather(*(one.stop(_LAST_WORDS_S) for one in self._listeners))
        finally:
            for task in closing:
                task.cancel()
            if closing:
                await asyncio.wait(closing)

    async def stop(self, grace_s: float) -> None:
        """Drain, cut what is left, and close everything."""
        await self.drain(grace_s)
        await self._channel.close()
        self._lag.stop()
        await self._watcher.stop()
        await self._streams.close()
        for one in self._background:
            await one.close()
        await self._catalogue.stop()
        await self._drainer.close()
        await self._usage.close()
        await self._transport.close()
        await self._identity.close()
        await self._storage.close()
        self._directory.close()
