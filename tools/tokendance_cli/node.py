"""One process of the gateway: server, facade, or both, started and stopped in order."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum

import grpc.aio

from tokendance_cli.announcement import is_local
from tokendance_cli.failures import USAGE, CommandError
from tokendance_cli.settings import GatewaySettings
from tokendance_facade.app import Facade
from tokendance_facade.internal import InternalSite
from tokendance_facade.listener import AddressError
from tokendance_facade.server_channel import open_channel
from tokendance_facade.server_watch import ServerWatch
from tokendance_server.app import open_server
from tokendance_server.server import FirstKey, Server
from tokendance_server.startup import ConfigurationError, StartupError
from tokendance_server.stores.paths import find_sockets
from tokendance_server.telemetry import new_registry


class Role(StrEnum):
    """What a process is."""

    ALL = "all"
    SERVER = "server"
    FACADE = "facade"


def is_loopback_only(settings: GatewaySettings, role: Role) -> bool:
    """Tell whether no other machine reaches a node. What stands before a server of its own is not known."""
    server, facade = settings.server, settings.facade
    addresses = (server.grpc, server.grpc_public, server.facade_grpc, facade.http, facade.internal)
    return role is Role.ALL and all(is_local(one) for one in addresses if one)


class Node:
    """The parts that a role needs, built and started by `start`; addresses are those really bound, empty without.

    `first_key` is there as soon as it is made, also where the node then cannot start: its secret is not kept.
    """

    def __init__(self, settings: GatewaySettings, role: Role) -> None:
        self._settings = settings
        self._role = role
        self._registry = new_registry()
        self._server: Server | None = None
        self._facade: Facade | None = None
        self._site: InternalSite | None = None
        self._channel: grpc.aio.Channel | None = None
        self._watch: ServerWatch | None = None
        self._stopping = False
        self.first_key: FirstKey | None = None
        self.http_url = ""
        self.internal_url = ""
        self.grpc_address = ""
        self.grpc_public_address = ""
        self.facade_address = ""

    async def start(self) -> None:
        """Open, bind and serve; raises CommandError, with nothing left running."""
        try:
            with _told(self._settings.facade.internal):
                if self._role is not Role.FACADE:
                    await self._start_server()
                if self._role is Role.SERVER:
                    await self._start_site()
                else:
                    await self._start_facade()
        except BaseException:
            await self.stop(0)
            raise

    async def stop(self, grace_s: float) -> None:
        """Let what runs end within `grace_s` seconds, tell the rest why it ends, and cut it. May be repeated."""
        # Known to load balancers from the first moment on, not only when callers are gone.
        self._stopping = True
        facade = None if self._facade is None else self._facade.stop(grace_s)
        server = None if self._server is None else self._server.drain(grace_s)
        await asyncio.gather(*(part for part in (facade, server) if part is not None))
        self._facade = None
        if self._site is not None:
            await self._site.stop()
            self._site = None
        if self._watch is not None:
            await self._watch.stop()
            self._watch = None
        if self._channel is not None:
            await self._channel.close()
            self._channel = None
        if self._server is not None:
            await self._server.stop(0)
            self._server = None

    async def _start_server(self) -> None:
        settings = self._settings
        self._server = await open_server(
            settings.server,
            providers=settings.providers,
            models=settings.models,
            registry=self._registry,
            loopback_only=is_loopback_only(settings, self._role),
        )
        self.first_key = self._server.first_key
        await self._server.start()
        self.grpc_address = self._server.grpc_address or ""
        self.grpc_public_address = self._server.grpc_public_address or ""
        self.facade_address = self._server.facade_address or ""

    async def _start_site(self) -> None:
        facade = self._settings.facade
        self._site = InternalSite(facade.internal, self._registry, self._server_ready, config=facade)
        await self._site.start()
        self.internal_url = self._site.url

    async def _start_facade(self) -> None:
        if self._server is not None:
            channel = self._server.local_channel()
            facade = Facade(self._settings.facade, channel, registry=self._registry, ready=self._server_ready)
        else:
            channel = self._channel = self._open_channel()
            watch = self._watch = ServerWatch(channel)
            watch.start()
            facade = Facade(
                self._settings.facade,
                channel,
                registry=self._registry,
                ready=lambda: watch.ready and not self._stopping,
                why_not=lambda: watch.why_not,
            )
        await facade.start()
        self._facade = facade
        self.http_url = facade.http_url
        self.internal_url = facade.internal_url

    def _server_ready(self) -> bool:
        return self._server is not None and self._server.ready and not self._stopping

    def _open_channel(self) -> grpc.aio.Channel:
        own_socket = f"unix:{find_sockets(self._settings.server.data_dir).facade}"
        return open_channel(self._settings.facade, own_socket)


@contextmanager
def _told(internal: str) -> Iterator[None]:
    """Tell why a node cannot start; `internal` is the address of its internal listener."""
    try:
        yield
    except ConfigurationError as error:
        raise CommandError("The settings cannot be used:", *error.mistakes, exit_code=USAGE) from error
    except StartupError as error:
        raise CommandError(str(error)) from error
    except AddressError as error:
        what, flag = ("The internal listener", "--internal") if error.filename == internal else ("REST", "--http")
        raise CommandError(
            f"{what} cannot listen on {error.filename}: the address is taken or not this machine's. "
            f"Choose another with {flag} HOST:PORT."
        ) from error
    except OSError as error:
        raise CommandError(f"The node cannot start: {error.strerror or error}.") from error
