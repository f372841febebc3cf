"""HTTP to upstreams by aiohttp's client, through the guarded connector. Satisfies providers.transport."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp
import yarl
from aiohttp.abc import AbstractResolver

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import errors_pb2
from tokendance.gateway.v1.errors_pb2 import ErrorReason
from tokendance_server.domain.catalogue.models import ProviderConfig
from tokendance_server.domain.egress import EgressPolicy, EgressRefusedError
from tokendance_server.providers.failures import broken, broken_off, too_large, unavailable
from tokendance_server.providers.guarded_connector import CONNECTING, Connecting, GuardedConnector
from tokendance_server.providers.patience import Patience
from tokendance_server.providers.transport import (
    DEFAULT_ANSWER_BYTES,
    DRAIN_BYTES,
    DRAIN_S,
    HEADER_BYTES,
    REQUEST_ID_HEADERS,
)
from tokendance_server.providers.ways import Contexts, Way, way_of
from tokendance_server.telemetry import logger


@dataclass(slots=True)
class _Sending:
    """A request on its way; `connecting` tells whether it went out on a kept connection."""

    provider: str
    method: str
    url: yarl.URL
    headers: Mapping[str, str]
    body: bytes
    connect_s: float
    connecting: Connecting
    way: Way | None = None


class AiohttpTransport:
    """Sends requests to upstreams over kept connections; its arguments are those of `open_transport`."""

    def __init__(
        self,
        egress: EgressPolicy,
        *,
        resolver: AbstractResolver | None = None,
        tls: ssl.SSLContext | None = None,
        answer_bytes: int = DEFAULT_ANSWER_BYTES,
    ) -> None:
        self._egress = egress
        self._resolver = resolver
        self._tls = tls
        self._contexts = Contexts()
        self._answer_bytes = answer_bytes
        # By whether its connections are for one call only: the kept ones may all be dead when an upstream restarts.
        self._sessions: dict[bool, aiohttp.ClientSession] = {}

    async def post(
        self, provider: ProviderConfig, url: yarl.URL, headers: Mapping[str, str], body: bytes, deadline: float
    ) -> AiohttpAnswer:
        """Send a POST and wait for the head of the answer; the caller closes the Answer.

        `deadline` is in the event loop's seconds. Raises provider_unavailable where no connection comes about,
        provider_timeout where the provider's patience ends, deadline_exceeded where the caller's does, provider_error
        where what comes is no answer. A kept connection that dies without a byte of the answer is replaced once, by
        a new one.
        """
        sending = _Sending(provider.id, "POST", url, headers, body, provider.connect_timeout_s, Connecting())
        sending.way = way_of(provider)
        return await self._ask(sending, provider, deadline)

    async def get(
        self, provider: ProviderConfig, url: yarl.URL, headers: Mapping[str, str], deadline: float
    ) -> AiohttpAnswer:
        """Send a GET, as `post` does."""
        sending = _Sending(provider.id, "GET", url, headers, b"", provider.connect_timeout_s, Connecting())
        sending.way = way_of(provider)
        return await self._ask(sending, provider, deadline)

    async def close(self) -> None:
        """Close every connection."""
        for session in self._sessions.values():
            await session.close()
        self._sessions.clear()

    async def _ask(self, sending: _Sending, provider: ProviderConfig, deadline: float) -> AiohttpAnswer:
        times = Patience(provider, deadline, asyncio.get_running_loop().time())
        response = await self._send(sending, times)
        if response is None and not sending.connecting.opened:
            response = await self._send(sending, times, anew=True)
        if response is None:
            raise broken()
        return self._admit(response, times, sending.connecting.took_us)

    async def _send(self, sending: _Sending, times: Patience, *, anew: bool = False) -> aiohttp.ClientResponse | None:
        """Return the answer once its head has come, or None where the connection was closed instead."""
        session = self._sessions.get(anew)
        if session is None:
            session = self._sessions[anew] = self._open_session(force_close=anew)
        connect_s = sending.connect_s
        CONNECTING.set(sending.connecting)
        try:
            async with asyncio.timeout_at(times.first_byte_due):
                return await session.request(
                    sending.method,
                    sending.url,
                    data=sending.body or None,
                    headers=sending.headers,
                    allow_redirects=False,
                    **self._way(sending.way),
                    timeout=aiohttp.ClientTimeout(total=None, connect=connect_s, sock_connect=connect_s),
                )
        except aiohttp.ClientConnectorError as exc:
            if isinstance(exc.os_error, EgressRefusedError):
                logger().warning("egress_refused", provider=sending.provider, why=str(exc.os_error))
            raise unavailable() from None
        except (aiohttp.ServerTimeoutError, aiohttp.ClientHttpProxyError):
            raise unavailable() from None
        except aiohttp.ServerDisconnectedError as exc:
            if not isinstance(exc.message, str):
                # What had come of the head: the request was served, and must not be paid for twice.
                raise broken() from None
            return None
        except aiohttp.ClientOSError:
            return None
        except TimeoutError:
            raise times.error(asyncio.get_running_loop().time()) from None
        except (aiohttp.ClientError, ValueError):
            raise broken() from None

    def _way(self, way: Way | None) -> dict[str, Any]:
        """The arguments of a request that say which way it takes."""
        if way is None:
            return {}
        host, port = way.proxy or ("", 0)
        proxy = {"proxy": yarl.URL.build(scheme="http", host=host, port=port)} if way.proxy else {}
        return {**proxy, "ssl": self._contexts.of(way)} if way.has_own_tls else proxy

    def _open_session(self, *, force_close: bool) -> aiohttp.ClientSession:
        resolver = self._resolver or aiohttp.ThreadedResolver()
        return aiohttp.ClientSession(
            connector=GuardedConnector(self._egress, resolver, tls=self._tls, force_close=force_close),
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
            auto_decompress=False,
        )

    def _admit(self, response: aiohttp.ClientResponse, times: Patience, connect_us: int | None) -> AiohttpAnswer:
        """Refuse by its head an answer that is too large or packed; the caller asked for neither."""
        answer = AiohttpAnswer(response, times, self._answer_bytes, connect_us)
        encoding = response.headers.get("content-encoding", "identity").strip().lower()
        head_bytes = sum(len(name) + len(value) for name, value in response.raw_headers)
        length = response.content_length
        packed = encoding not in ("identity", "")
        # Of a refusal the status says enough, so its body may be unreadable.
        if (packed and response.status == 200) or head_bytes > HEADER_BYTES:
            answer.close()
            raise broken()
        if length is not None and length > self._answer_bytes:
            answer.close()
            raise too_large()
        return answer


class AiohttpAnswer:
    """An answer whose head has come. Always close it: that keeps its connection only where the body was read whole."""

    def __init__(
        self, response: aiohttp.ClientResponse, times: Patience, limit: int, connect_us: int | None = None
    ) -> None:
        self.status = response.status
        self.connect_us = connect_us
        self._response = response
        self._content = response.content
        self._times = times
        self._limit = limit
        self._received = 0
        self._expired = False
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_at(times.due(), self._watch)

    @property
    def headers(self) -> dict[str, str]:
        """The headers by lower-case name; of a repeated one the last."""
        return {name.lower(): value for name, value in self._response.headers.items()}

    @property
    def request_id(self) -> str:
        """The upstream's own id of the call; empty where it wrote none."""
        headers = self._response.headers
        return next((headers[name] for name in REQUEST_ID_HEADERS if name in headers), "")

    @property
    def content_type(self) -> str:
        """The media type in lower case without its parameters; empty where none was sent."""
        return self._response.headers.get("content-type", "").partition(";")[0].strip().lower()

    async def read_packet(self) -> bytes:
        """Return what has arrived, at least one byte; nothing at the end of the body.

        Raises stream_interrupted where the body was cut, and the timeouts of `post`.
        """
        return await self._read(errors_pb2.ERROR_REASON_STREAM_INTERRUPTED)

    async def read_body(self) -> bytes:
        """Return the whole body. Raises provider_error where it was cut or is too large, and the timeouts of `post`."""
        packets = []
        while packet := await self._read(errors_pb2.ERROR_REASON_PROVIDER_ERROR):
            packets.append(packet)
        return packets[0] if len(packets) == 1 else b"".join(packets)

    async def read_beginning(self, size: int) -> bytes:
        """Return the body up to about `size` bytes, or what of it came before it was cut."""
        packets: list[bytes] = []
        try:
            while self._received < size and (packet := await self.read_packet()):
                packets.append(packet)
        except GatewayError:
            return b"".join(packets)
        return b"".join(packets)

    async def drain(self) -> None:
        """Read a small rest of the body, if it comes at once, so that the connection can be kept."""
        if self._content.at_eof():
            return
        left = self._received + DRAIN_BYTES
        try:
            async with asyncio.timeout(DRAIN_S):
                while self._received < left and await self.read_packet():
                    pass
        except (TimeoutError, GatewayError):
            return

    def close(self) -> None:
        """Let go of the answer: its connection is kept if the body was read whole, and closed otherwise."""
        self._timer.cancel()
        self._response.close()

    async def _read(self, cut: ErrorReason.ValueType) -> bytes:
        try:
            data = await self._content.readany()
        except (aiohttp.ClientError, OSError, ValueError):
            if self._expired:
                raise self._times.error(self._loop.time()) from None
            raise broken_off(cut) from None
        if self._expired:
            raise self._times.error(self._loop.time())
        first = self._times.last is None
        self._times.last = self._loop.time()
        if first:
            # From here on another patience counts, and it may end sooner than the one the timer was set for.
            self._timer.cancel()
            self._timer = self._loop.call_at(self._times.due(), self._watch)
        self._received += len(data)
        if self._received > self._limit:
            raise too_large()
        return data

    def _watch(self) -> None:
        """Close the connection of an answer that keeps silent too long; a reader that waits is woken by that."""
        due = self._times.due()
        if self._loop.time() >= due:
            self._expired = True
            self._response.close()
        else:
            self._timer = self._loop.call_at(due, self._watch)
