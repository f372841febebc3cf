"""What the server asks of HTTP to upstreams, and which implementation does it: the seam between relay and sockets.

No implementation follows a redirect, keeps a cookie, believes a proxy of the environment, inflates anything, or names a
host in an error. Sizes and times are bounded; a call that is given up closes its connection.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from typing import Literal, Protocol

import yarl
from aiohttp.abc import AbstractResolver

from tokendance_server.domain.catalogue.models import ProviderConfig
from tokendance_server.domain.egress import EgressPolicy

Client = Literal["aiohttp", "lean"]

DEFAULT_ANSWER_BYTES = 64 * 1024 * 1024
HEADER_BYTES = 32 * 1024

REQUEST_ID_HEADERS = ("x-request-id", "request-id", "apim-request-id")
"""Where upstreams write their own id of a call."""

DRAIN_S = 0.02
"""How long the end of a body may lag behind the last event before its connection is given up instead of kept."""
DRAIN_BYTES = 64 * 1024


class Answer(Protocol):
    """An answer whose head has come. Always close it: that keeps its connection only where the body came whole."""

    @property
    def status(self) -> int:
        """The status code."""

    @property
    def headers(self) -> dict[str, str]:
        """The headers by lower-case name; of a repeated one the last."""

    @property
    def content_type(self) -> str:
        """The media type in lower case without its parameters; empty where none was sent."""

    @property
    def request_id(self) -> str:
        """The upstream's own id of the call, as it wrote it into a header; empty where it wrote none."""

    @property
    def connect_us(self) -> int | None:
        """How long its connection took to come about, in microseconds; None where an open one served."""

    async def read_packet(self) -> bytes:
        """Return what has arrived, at least one byte; nothing at the end of the body.

        Raises stream_interrupted where the body was cut, provider_error where it is too large, and the timeouts of
        `Transport.post`.
        """

    async def read_body(self) -> bytes:
        """Return the whole body. Raises provider_error where it was cut or is too large, and the timeouts of `post`."""

    async def read_beginning(self, size: int) -> bytes:
        """Return the body up to about `size` bytes, or what of it came before it was cut."""

    async def drain(self) -> None:
        """Read a small rest of the body, if it comes at once, so that the connection can be kept."""

    def close(self) -> None:
        """Let go of the answer: its connection is kept if the body came whole, and closed otherwise."""


class Transport(Protocol):
    """Sends requests to upstreams over kept connections. Use it in one event loop, and close it there."""

    async def post(
        self, provider: ProviderConfig, url: yarl.URL, headers: Mapping[str, str], body: bytes, deadline: float
    ) -> Answer:
        """Send a POST and wait for the head of the answer; the caller closes the Answer.

        `deadline` is in the event loop's seconds. Raises provider_unavailable where no connection comes about,
        provider_timeout where the provider's patience ends, deadline_exceeded where the caller's does, provider_error
        where what comes is no answer. A kept connection that dies without a byte of the answer is replaced once, by
        a new one.
        """

    async def get(self, provider: ProviderConfig, url: yarl.URL, headers: Mapping[str, str], deadline: float) -> Answer:
        """Send a GET, as `post` does."""

    async def close(self) -> None:
        """Close every connection."""


def open_transport(
    client: Client,
    egress: EgressPolicy,
    *,
    resolver: AbstractResolver | None = None,
    tls: ssl.SSLContext | None = None,
    answer_bytes: int = DEFAULT_ANSWER_BYTES,
) -> Transport:
    """Return a transport of the client that the settings name.

    It connects to what `egress` lets pass; names are resolved by `resolver`, or else as the system resolves them, and
    certificates checked by `tls`, or else as the system trusts them. `answer_bytes` is the largest body of an answer,
    streams included.
    """
    # Each knows this module, so they are known here only when one is wanted.
    if client == "lean":
        from tokendance_server.providers.lean.transport import LeanTransport

        return LeanTransport(egress, resolver=resolver, tls=tls, answer_bytes=answer_bytes)
    from tokendance_server.providers.aiohttp_transport import AiohttpTransport

    return AiohttpTransport(egress, resolver=resolver, tls=tls, answer_bytes=answer_bytes)
