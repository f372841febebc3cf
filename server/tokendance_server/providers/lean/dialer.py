"""Opens connections under the egress policy: a name is resolved once, and what it gave is all that is tried.

Every address is checked three times: as the resolver gives it, as a socket is opened for it, and as the peer that the
socket really has. A proxy is an address like any other; what lies beyond is checked as far as its name is known here.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
from typing import Any

import aiohappyeyeballs
import aiohttp
from aiohappyeyeballs import AddrInfoType
from aiohttp.abc import AbstractResolver

from tokendance_server.domain.egress import EgressPolicy, EgressRefusedError
from tokendance_server.providers.guarded_connector import GuardedResolver
from tokendance_server.providers.lean.connection import Connection
from tokendance_server.providers.lean.pool import Origin, Pool
from tokendance_server.providers.lean.tunnel import open_tunnel
from tokendance_server.providers.ways import BEYOND_S, Contexts, Way

_NAMES_S = 30
_NAMES = 1024
_NEXT_ADDRESS_S = 0.25


class Dialer:
    """Connects for a pool; names are resolved by `resolver`, or else as the system resolves them."""

    def __init__(
        self, policy: EgressPolicy, pool: Pool, resolver: AbstractResolver | None, tls: ssl.SSLContext | None
    ) -> None:
        self._policy = policy
        self._pool = pool
        self._resolver = resolver
        self._tls = tls
        self._contexts = Contexts()
        self._names: dict[tuple[str, int], tuple[float, list[AddrInfoType]]] = {}
        self._asking: dict[tuple[str, int], asyncio.Task[list[AddrInfoType]]] = {}

    async def connect(self, origin: Origin) -> Connection:
        """Return an open connection. Raises EgressRefusedError, and OSError where none comes about."""
        way = origin.way
        proxy = way.proxy if way is not None else None
        if proxy is not None:
            await self._check_beyond(origin)
        addresses = await self._find(*(proxy or (origin.host, origin.port)))
        found = await aiohappyeyeballs.start_connection(
            addresses, happy_eyeballs_delay=_NEXT_ADDRESS_S, interleave=1, socket_factory=self._open_socket
        )
        if proxy is not None and origin.tls:
            await open_tunnel(found, origin.host, origin.port)
        connection = self._pool.open(origin)
        try:
            await self._join(found, connection, origin)
            if (peer := connection.peer) is None:
                raise OSError("the connection ended at once")
            self._policy.check_address(peer)
        except BaseException:
            self._pool.forget(connection)
            raise
        return connection

    def forget_names(self) -> None:
        """Ask again for every name that is connected to from now on."""
        self._names.clear()

    async def close(self) -> None:
        """Give up what is being resolved."""
        for task in list(self._asking.values()):
            task.cancel()
        if self._asking:
            await asyncio.wait(list(self._asking.values()))

    async def _join(self, found: socket.socket, connection: Connection, origin: Origin) -> None:
        """Hand an open socket over to the connection, behind TLS where the origin wants it."""
        try:
            found.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await asyncio.get_running_loop().create_connection(
                lambda: connection,
                sock=found,
                ssl=self._context(origin.way) if origin.tls else None,
                server_hostname=origin.host.rstrip(".") if origin.tls else None,
            )
        except BaseException:
            found.close()
            raise

    async def _check_beyond(self, origin: Origin) -> None:
        """Refuse what a proxy must not be asked for. Raises EgressRefusedError; a name that is unknown here passes."""
        try:
            async with asyncio.timeout(BEYOND_S):
                for address in await self._find(origin.host, origin.port):
                    self._policy.check_address(str(address[4][0]))
        except EgressRefusedError:
            raise
        except (OSError, TimeoutError):
            return

    def _context(self, way: Way | None) -> ssl.SSLContext:
        """Return how certificates are checked; made once, for reading what the system trusts takes its time."""
        if way is not None and way.has_own_tls:
            return self._contexts.of(way)
        if self._tls is None:
            self._tls = ssl.create_default_context()
            self._tls.set_alpn_protocols(["http/1.1"])
        return self._tls

    def _open_socket(self, address: AddrInfoType) -> socket.socket:
        family, kind, protocol, _, peer = address
        self._policy.check_address(str(peer[0]))
        return socket.socket(family, kind, protocol)

    async def _find(self, host: str, port: int) -> list[AddrInfoType]:
        """Return the addresses of a host; many that ask at once share one question, and outlive each other."""
        if (literal := _literal(host, port)) is not None:
            return [literal]
        key = (host, port)
        known = self._names.get(key)
        if known is not None and known[0] > asyncio.get_running_loop().time():
            return known[1]
        task = self._asking.get(key)
        if task is None:
            task = self._asking[key] = asyncio.get_running_loop().create_task(self._resolve(host, port))
            task.add_done_callback(lambda done: self._answered(key, done))
        return await asyncio.shield(task)

    async def _resolve(self, host: str, port: int) -> list[AddrInfoType]:
        if self._resolver is None:
            self._resolver = aiohttp.ThreadedResolver()
        found = await GuardedResolver(self._policy, self._resolver).resolve(host, port)
        return [
            (one["family"], socket.SOCK_STREAM, socket.IPPROTO_TCP, "", _place(one["host"], one["port"], one["family"]))
            for one in found
        ]

    def _answered(self, key: tuple[str, int], task: asyncio.Task[list[AddrInfoType]]) -> None:
        self._asking.pop(key, None)
        # Looked at also where those who asked have left, so that it is not called a failure that nobody saw.
        if task.cancelled() or task.exception() is not None:
            return
        if len(self._names) >= _NAMES:
            self._names.clear()
        self._names[key] = (asyncio.get_running_loop().time() + _NAMES_S, task.result())


def _literal(host: str, port: int) -> AddrInfoType | None:
    """Return what is to be connected to where the host is an address itself, or None where it is a name."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    return (family, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", _place(host, port, family))


def _place(host: str, port: int, family: int) -> tuple[Any, ...]:
    return (host, port, 0, 0) if family == socket.AF_INET6 else (host, port)
