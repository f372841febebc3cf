"""Connections of the HTTP client under the egress policy: a name is resolved once, and what it gave is all there is.

Every address is checked three times: as the resolver gives it, as a socket is opened for it (also where the host is an
address itself, or a proxy), and as the peer that the socket really has. No name is looked up a second time in between.
What lies beyond a proxy is checked as far as its name is known here.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
import time
from contextvars import ContextVar
from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.client_proto import ResponseHandler

from tokendance_server.domain.egress import EgressPolicy, EgressRefusedError
from tokendance_server.providers.ways import BEYOND_S

_DNS_CACHE_S = 30


class Connecting:
    """Tells whether a request had to open a connection, or found a kept one, and the microseconds that opening took."""

    __slots__ = ("opened", "took_us")

    def __init__(self) -> None:
        self.opened = False
        self.took_us: int | None = None


CONNECTING: ContextVar[Connecting | None] = ContextVar("connecting", default=None)
"""Set while a request looks for its connection; a trace of the client would tell the same at an eighth of a call."""


class GuardedResolver(AbstractResolver):
    """Resolves names as another resolver does, and refuses whatever the policy refuses.

    One refused address refuses the whole answer: a name that is public and private at once is a mistake or a trap.
    """

    def __init__(self, policy: EgressPolicy, resolver: AbstractResolver) -> None:
        self._policy = policy
        self._resolver = resolver

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Return the addresses of a name. Raises EgressRefusedError, and OSError where there is none."""
        found = await self._resolver.resolve(host, port, family)
        if not found:
            raise OSError("the name has no address")
        for one in found:
            self._policy.check_address(one["host"])
        return found

    async def close(self) -> None:
        """Close the other resolver."""
        await self._resolver.close()


class GuardedConnector(aiohttp.TCPConnector):
    """Connects to what the policy lets pass; a refusal is a ClientConnectorError over an EgressRefusedError."""

    def __init__(
        self,
        policy: EgressPolicy,
        resolver: AbstractResolver,
        *,
        tls: ssl.SSLContext | None = None,
        force_close: bool = False,
    ) -> None:
        self._guarded = GuardedResolver(policy, resolver)
        super().__init__(
            limit=0,
            ssl=tls or True,
            force_close=force_close,
            ttl_dns_cache=_DNS_CACHE_S,
            resolver=self._guarded,
            socket_factory=self._open_socket,
        )
        self._policy = policy

    def _open_socket(self, address: tuple[Any, ...]) -> socket.socket:
        family, kind, protocol, _, peer = address
        self._policy.check_address(peer[0])
        return socket.socket(family, kind, protocol)

    async def _create_connection(
        self, req: aiohttp.ClientRequest, traces: list[Any], timeout: aiohttp.ClientTimeout
    ) -> ResponseHandler:
        """Connect, and let go of a connection whose peer is refused; aiohttp lets a connector be extended here."""
        connecting = CONNECTING.get()
        if connecting is not None:
            connecting.opened = True
        began = time.perf_counter_ns()
        if req.proxy is not None:
            await self._check_beyond(req)
        protocol = await super()._create_connection(req, traces, timeout)
        if connecting is not None:
            connecting.took_us = (time.perf_counter_ns() - began) // 1000
        try:
            self._check_peer(protocol)
        except OSError as exc:
            protocol.close()
            raise aiohttp.ClientConnectorError(req.connection_key, exc) from exc
        return protocol

    async def _check_beyond(self, req: aiohttp.ClientRequest) -> None:
        """Refuse what a proxy must not be asked for; a name that is unknown here passes."""
        host = req.url.raw_host or ""
        try:
            if _is_address(host):
                self._policy.check_address(host)
                return
            async with asyncio.timeout(BEYOND_S):
                await self._guarded.resolve(host, req.url.port or 0)
        except EgressRefusedError as exc:
            raise aiohttp.ClientConnectorError(req.connection_key, exc) from exc
        except (OSError, TimeoutError):
            return

    def _check_peer(self, protocol: ResponseHandler) -> None:
        peer = protocol.transport and protocol.transport.get_extra_info("peername")
        if not peer:
            raise OSError("the connection ended at once")
        self._policy.check_address(peer[0])


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
