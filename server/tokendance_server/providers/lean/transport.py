"""HTTP/1.1 to upstreams on the lean connections. Satisfies providers.transport."""

from __future__ import annotations

import asyncio
import re
import ssl
import time
from collections.abc import Mapping
from functools import lru_cache

import yarl
from aiohttp.abc import AbstractResolver

from tokendance_server.domain.catalogue.models import ProviderConfig
from tokendance_server.domain.egress import EgressPolicy, EgressRefusedError
from tokendance_server.providers.failures import broken, too_large, unavailable
from tokendance_server.providers.lean.answer import LeanAnswer
from tokendance_server.providers.lean.connection import Connection
from tokendance_server.providers.lean.dialer import Dialer
from tokendance_server.providers.lean.pool import Origin, Pool
from tokendance_server.providers.patience import Patience
from tokendance_server.providers.transport import DEFAULT_ANSWER_BYTES, HEADER_BYTES
from tokendance_server.providers.ways import Way, way_of
from tokendance_server.telemetry import logger

_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")

_VALUE = re.compile(r"[^\x00-\x08\x0a-\x1f\x7f]*")
_TARGET = re.compile(r"[!-~]+")
# Said by the transport itself: a second one would make one message two.
_FRAMING = frozenset({"content-length", "host", "transfer-encoding"})


class LeanTransport:
    """Sends requests to upstreams over kept connections; its arguments are those of `open_transport`."""

    def __init__(
        self,
        egress: EgressPolicy,
        *,
        resolver: AbstractResolver | None = None,
        tls: ssl.SSLContext | None = None,
        answer_bytes: int = DEFAULT_ANSWER_BYTES,
    ) -> None:
        self._answer_bytes = answer_bytes
        self._pool = Pool()
        self._dialer = Dialer(egress, self._pool, resolver, tls)
        # A provider's calls differ in their bodies only, so nearly every head has been made before.
        self._target = lru_cache(maxsize=256)(_target)
        self._head = lru_cache(maxsize=256)(_head)

    async def post(
        self, provider: ProviderConfig, url: yarl.URL, headers: Mapping[str, str], body: bytes, deadline: float
    ) -> LeanAnswer:
        """Send a POST and wait for the head of the answer, as providers.transport says."""
        target, origin = self._target(url, way_of(provider))
        head = self._head("POST", target, tuple(headers.items()))
        return await self._ask(provider, origin, b"%bcontent-length: %d\r\n\r\n" % (head, len(body)), body, deadline)

    async def get(
        self, provider: ProviderConfig, url: yarl.URL, headers: Mapping[str, str], deadline: float
    ) -> LeanAnswer:
        """Send a GET, as `post` does."""
        target, origin = self._target(url, way_of(provider))
        head = self._head("GET", target, tuple(headers.items()))
        return await self._ask(provider, origin, head + b"\r\n", b"", deadline)

    async def close(self) -> None:
        """Close every connection."""
        await self._dialer.close()
        await self._pool.close()

    async def _ask(
        self, provider: ProviderConfig, origin: Origin, head: bytes, body: bytes, deadline: float
    ) -> LeanAnswer:
        patience = Patience(provider, deadline, asyncio.get_running_loop().time())
        answer = None
        kept = self._pool.take(origin)
        if kept is not None:
            answer = await self._exchange(kept, head, body, patience)
        if answer is None:
            began = time.perf_counter_ns()
            connection = await self._connect(provider, origin, patience)
            connect_us = (time.perf_counter_ns() - began) // 1000
            answer = await self._exchange(connection, head, body, patience, connect_us)
        if answer is None:
            raise broken()
        return self._admit(answer)

    async def _connect(self, provider: ProviderConfig, origin: Origin, patience: Patience) -> Connection:
        """Return a new connection. Raises provider_unavailable, and the timeouts of `post`."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout_at(min(loop.time() + provider.connect_timeout_s, patience.first_byte_due)):
                return await self._dialer.connect(origin)
        except EgressRefusedError as exc:
            logger().warning("egress_refused", provider=provider.id, why=str(exc))
            raise unavailable() from None
        except TimeoutError:
            if loop.time() >= patience.first_byte_due:
                raise patience.error(loop.time()) from None
            raise unavailable() from None
        except OSError:
            raise unavailable() from None
        except ValueError:
            raise broken() from None

    async def _exchange(
        self, connection: Connection, head: bytes, body: bytes, patience: Patience, connect_us: int | None = None
    ) -> LeanAnswer | None:
        """Return the answer once its head has come, or None where the connection was closed before a byte of it."""
        loop = connection.loop
        reply = connection.send(head, body)
        timer = loop.call_at(patience.first_byte_due, reply.expire)
        answer = LeanAnswer(
            connection, reply, self._pool, patience, timer=timer, limit=self._answer_bytes, connect_us=connect_us
        )
        try:
            while not (reply.headed or reply.failed or reply.expired):
                await reply.wait()
        except BaseException:
            answer.close()
            raise
        if reply.headed:
            if reply.complete:
                # All is here, so nothing more is waited for.
                timer.cancel()
            return answer
        answer.close()
        if reply.expired:
            raise patience.error(loop.time())
        if reply.begun:
            # What had come of the head: the request was served, and must not be paid for twice.
            raise broken()
        return None

    def _admit(self, answer: LeanAnswer) -> LeanAnswer:
        """Refuse by its head an answer that is too large or packed; the caller asked for neither."""
        packed = answer.header(b"content-encoding").strip().lower() not in (b"", b"identity")
        # Of a refusal the status says enough, so its body may be unreadable.
        if (packed and answer.status == 200) or answer.head_bytes > HEADER_BYTES:
            answer.close()
            raise broken()
        length = answer.header(b"content-length")
        if length and int(length) > self._answer_bytes:
            answer.close()
            raise too_large()
        return answer


def _target(url: yarl.URL, way: Way | None) -> tuple[bytes, Origin]:
    """Return where a URL leads, and the request target with the host. Raises provider_error for one with no host."""
    host, port = url.raw_host, url.port
    authority = url.host_port_subcomponent
    target = url.raw_path_qs
    if not host or not port or not authority or url.scheme not in ("http", "https") or not _TARGET.fullmatch(target):
        raise broken()
    tls = url.scheme == "https"
    if way is not None and way.proxy is not None and not tls:
        # Without TLS a proxy is no tunnel: it is told the whole address.
        target = f"http://{authority}{target}"
    line = f"{target} HTTP/1.1\r\nhost: {authority}\r\n"
    return line.encode("ascii"), Origin(tls, host, port, way)


def _head(method: str, target: bytes, headers: tuple[tuple[str, str], ...]) -> bytes:
    """Return the head of a request but for its end. Raises provider_error for a header that cannot be sent."""
    lines = [f"{method} ".encode() + target]
    for name, value in headers:
        if not _NAME.fullmatch(name) or not _VALUE.fullmatch(value) or name.lower() in _FRAMING:
            raise broken()
        lines.append(f"{name}: {value}\r\n".encode())
    return b"".join(lines)
