"""An upstream over HTTP: a wire format and the transport joined to what the domain asks of an upstream."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterable, Sequence

import yarl

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import completion_pb2, errors_pb2
from tokendance_server.domain.catalogue.models import ProviderConfig
from tokendance_server.domain.egress import check_path
from tokendance_server.domain.upstream import UpstreamCall
from tokendance_server.providers import CapsOutput, Codec, StreamDecoder, UpstreamRequest
from tokendance_server.providers.attribution import without_attribution
from tokendance_server.providers.parameters import join
from tokendance_server.providers.transport import Answer, Transport

STREAM = "text/event-stream"
_JSON = "application/json"
# The kind of provider that is told whom an agent bills.
_ATTRIBUTED = "anthropic"
ERROR_BODY_BYTES = 64 * 1024

_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}")
_HEADER_VALUE = re.compile(r"[\x20-\x7e\x80-\xff\t]*")
# The transport's own: what these say must be true of the message that is really sent.
_RESERVED_HEADERS = frozenset(
    {"accept-encoding", "connection", "content-length", "content-type", "expect", "host", "te", "trailer",
     "transfer-encoding", "upgrade"}
)  # fmt: skip


class HttpUpstream:
    """One provider over HTTP. Satisfies domain.upstream.Upstream.

    Raises ValueError for a base URL, header or credential that cannot be sent; the message never holds its value.
    """

    def __init__(self, codec: Codec, transport: Transport, provider: ProviderConfig) -> None:
        self._codec = codec
        # Asked once: of a protocol the answer takes longer than writing a request.
        self._caps = codec if isinstance(codec, CapsOutput) else None
        self._transport = transport
        self._provider = provider
        self._is_foreign = provider.kind != _ATTRIBUTED
        self._base = _check_base_url(provider.base_url)
        self._headers = {
            "user-agent": "tokendance-gateway",
            **_check_headers(provider.extra_headers.items(), "extra_headers"),
            **_check_headers(codec.credential_headers(provider.credential), "credential"),
            "content-type": _JSON,
            "accept-encoding": "identity",
        }
        self._urls: dict[str, yarl.URL] = {}

    async def complete(
        self, request: completion_pb2.CompletionRequest, call: UpstreamCall
    ) -> completion_pb2.Completion:
        """Answer in one message."""
        body = await self._ask(self._encode(request, call, stream=False), call)
        return self._codec.decode_completion(body, request)

    async def embed(self, request: completion_pb2.EmbeddingsRequest, call: UpstreamCall) -> completion_pb2.Embeddings:
        """Turn texts into vectors."""
        body = await self._ask(self._codec.encode_embeddings(request, call.model), call)
        return self._codec.decode_embeddings(body, request)

    async def stream(
        self, request: completion_pb2.CompletionRequest, call: UpstreamCall
    ) -> AsyncIterator[Sequence[completion_pb2.CompletionEvent]]:
        """Answer as batches: the events of one received packet each, never an empty one."""
        asked = self._encode(request, call, stream=True)
        decoder = self._codec.stream_decoder(request)
        answer = await self._post(asked, call, STREAM)
        opened = _OpenStream(answer, decoder)
        taken = False
        try:
            await self._check_stream(answer)
            try:
                while (events := await opened.read_events()) is not None:
                    yield events
            except (GeneratorExit, asyncio.CancelledError):
                leaving = None if decoder.done else call.after_leaving
                taken = leaving is not None and leaving.take(opened)
                raise
            await answer.drain()
        finally:
            if not taken:
                answer.close()

    async def discover(self, call: UpstreamCall) -> Sequence[str]:
        """Ask which models the provider has; raises provider_error where it does not say."""
        headers = {name: value for name, value in self._headers.items() if name != "content-type"}
        url = self._url(self._codec.models_path)
        answer = await self._transport.get(self._provider, url, headers | {"accept": _JSON}, call.deadline)
        try:
            return self._codec.decode_models(await (await self._good(answer)).read_body())
        finally:
            answer.close()

    def warnings(self, request: completion_pb2.CompletionRequest) -> Sequence[completion_pb2.Warning]:
        """Tell what would be left out; raises unsupported_parameter where that would change the answer."""
        return self._codec.warnings(request)

    def _encode(
        self, request: completion_pb2.CompletionRequest, call: UpstreamCall, *, stream: bool
    ) -> UpstreamRequest:
        if self._is_foreign:
            request = without_attribution(request)
        if self._caps is not None:
            request = self._caps.capped(request, call.output_cap)
        return self._codec.encode_completion(request, call.model, stream=stream)

    async def _ask(self, asked: UpstreamRequest, call: UpstreamCall) -> bytes:
        """Send a request and return the whole body of a good answer."""
        answer = await self._post(asked, call, _JSON)
        try:
            return await answer.read_body()
        finally:
            answer.close()

    async def _post(self, asked: UpstreamRequest, call: UpstreamCall, accept: str) -> Answer:
        """Send a request and return the good answer, to be read and closed; raises what a bad one means."""
        url = self._url(asked.path)
        headers = {**self._headers, "accept": accept}
        if asked.headers:
            headers.update(_check_headers(asked.headers, "the request"))
        body = join(asked.body, call.default_parameters, call.forced_parameters)
        answer = await self._transport.post(self._provider, url, headers, body, call.deadline)
        seen = call.seen
        seen.status, seen.request_id, seen.connect_us = answer.status, answer.request_id, answer.connect_us
        return await self._good(answer)

    def _url(self, path: str) -> yarl.URL:
        url = self._urls.get(path)
        if url is None:
            check_path(path)
            url = self._urls[path] = yarl.URL(self._base + path, encoded=True)
        return url

    async def _good(self, answer: Answer) -> Answer:
        """Return an answer of status 200; raises what any other means, and closes it."""
        if answer.status == 200:
            return answer
        try:
            body = await answer.read_beginning(ERROR_BODY_BYTES)
            raise self._codec.decode_error(answer.status, answer.headers, body)
        finally:
            answer.close()

    async def _check_stream(self, answer: Answer) -> None:
        """Raise where the answer is no stream, with what it says if that is an error of this wire format."""
        kind = answer.content_type
        if kind in (STREAM, ""):
            return
        if kind.endswith("json"):
            raise self._codec.error_of_body(await answer.read_body())
        raise GatewayError(
            errors_pb2.ERROR_REASON_PROVIDER_ERROR,
            "The model's provider sent no stream where one was asked for; send the request again.",
            origin="provider",
        )


class _OpenStream:
    """A stream of an upstream, packet by packet. Satisfies domain.upstream.OpenAnswer."""

    __slots__ = ("_answer", "_decoder", "_ended", "received")

    def __init__(self, answer: Answer, decoder: StreamDecoder) -> None:
        self._answer = answer
        self._decoder = decoder
        self._ended = False
        self.received = 0

    async def read_events(self) -> Sequence[completion_pb2.CompletionEvent] | None:
        """Return the events of the next packet that has any, or None behind the end."""
        while not self._ended:
            packet = b"" if self._decoder.done else await self._answer.read_packet()
            if packet:
                self.received += len(packet)
                events = self._decoder.feed(packet)
            else:
                self._ended = True
                events = self._decoder.close()
            if events:
                return events
        return None

    def close(self) -> None:
        """Let go of the answer."""
        self._answer.close()


def _check_base_url(base_url: str) -> str:
    """Return the base URL without a slash at its end; raises ValueError where it is none, or holds a credential."""
    url = yarl.URL(base_url)
    if url.scheme not in ("http", "https") or not url.host:
        raise ValueError("base_url must be an http or https address with a host")
    if url.user or url.password or url.query_string or url.fragment:
        raise ValueError("base_url must hold no user, password, query or fragment")
    return str(url).rstrip("/")


def _check_headers(headers: Iterable[tuple[str, str]], where: str) -> dict[str, str]:
    """Return headers by lower-case name; raises ValueError for one that cannot be sent, without its value."""
    checked: dict[str, str] = {}
    for name, value in headers:
        lower = name.lower()
        if not _HEADER_NAME.fullmatch(name) or lower in _RESERVED_HEADERS:
            raise ValueError(f"{where}: a header of this name cannot be set: {name[:64]!r}")
        if not _HEADER_VALUE.fullmatch(value) or value != value.strip():
            raise ValueError(f"{where}: the value of the header {lower} holds a character that no header may hold")
        checked[lower] = value
    return checked
