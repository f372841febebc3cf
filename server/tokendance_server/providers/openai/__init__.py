"""OpenAI Chat Completions and Embeddings, and every server compatible with them. Pure: messages in, bytes out."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import msgspec

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import completion_pb2 as pb
from tokendance.ids import new_id
from tokendance_server.providers import UpstreamRequest, json_text
from tokendance_server.providers.openai.answer import read_answer, unreadable
from tokendance_server.providers.openai.capabilities import CAPABILITIES, check_capabilities
from tokendance_server.providers.openai.embeddings import read_embeddings, write_embeddings
from tokendance_server.providers.openai.errors import error_of_answer, error_of_document
from tokendance_server.providers.openai.gaps import find_gaps
from tokendance_server.providers.openai.models import read_models
from tokendance_server.providers.openai.plain_answer import read_plain
from tokendance_server.providers.openai.request import write_request
from tokendance_server.providers.openai.stream import OpenAIStreamDecoder
from tokendance_server.providers.sse import DEFAULT_EVENT_BYTES

__all__ = ["CAPABILITIES", "OpenAICodec", "Wire", "mint_call_id"]

_encode = msgspec.json.Encoder().encode


def mint_call_id() -> str:
    """Return an id for a tool call without one."""
    return new_id("call")


def _plain_path(method: str, model: str) -> str:
    return method


def _bearer(credential: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {credential}"),)


@dataclass(frozen=True, slots=True)
class Wire:
    """Where a server has its methods, and how it wants to be told who calls.

    `path` returns the path of a method such as `/chat/completions` for the upstream's model, `headers` those that
    carry a credential; a GET of `models_path` lists the models.
    """

    path: Callable[[str, str], str] = _plain_path
    models_path: str = "/models"
    headers: Callable[[str], tuple[tuple[str, str], ...]] = _bearer


class OpenAICodec:
    """The wire format of OpenAI-compatible servers.

    `capabilities` are names of the table in capabilities.py; an unknown one raises ValueError. `mint` makes ids for
    tool calls of servers that give none; `event_bytes` is the largest event of a stream; `wire` says where the methods
    are.
    """

    def __init__(
        self,
        capabilities: Collection[str] = (),
        /,
        *,
        mint: Callable[[], str] = mint_call_id,
        event_bytes: int = DEFAULT_EVENT_BYTES,
        wire: Wire = Wire(),
    ) -> None:
        self._wire = wire
        self.models_path = wire.models_path
        self._capabilities = check_capabilities(capabilities)
        self._mint = mint
        self._event_bytes = event_bytes

    def warnings(self, request: pb.CompletionRequest) -> Sequence[pb.Warning]:
        """Tell what would be left out; raises unsupported_parameter where that would change the answer."""
        return find_gaps(request, self._capabilities)

    def encode_completion(self, request: pb.CompletionRequest, model: str, *, stream: bool) -> UpstreamRequest:
        """Write the request for the upstream's model; `warnings` has let it pass."""
        body = write_request(request, model, stream=stream, capabilities=self._capabilities)
        return UpstreamRequest(self._wire.path("/chat/completions", model), _encode(body))

    def decode_completion(self, body: bytes, request: pb.CompletionRequest) -> pb.Completion:
        """Read a whole answer. Raises provider_error, or the error that it holds."""
        return read_plain(body, request) or read_answer(body, request, self._mint)

    def stream_decoder(self, request: pb.CompletionRequest) -> OpenAIStreamDecoder:
        """Return a decoder for one streamed answer to `request`."""
        return OpenAIStreamDecoder(request, self._mint, self._event_bytes)

    def encode_embeddings(self, request: pb.EmbeddingsRequest, model: str) -> UpstreamRequest:
        """Write the request for vectors."""
        body = write_embeddings(request, model, self._capabilities)
        return UpstreamRequest(self._wire.path("/embeddings", model), _encode(body))

    def decode_embeddings(self, body: bytes, request: pb.EmbeddingsRequest) -> pb.Embeddings:
        """Read vectors. Raises provider_error, or the error that the body holds."""
        return read_embeddings(body, request, self._capabilities)

    def decode_models(self, body: bytes) -> Sequence[str]:
        """Read `GET /models`, sorted, each id once. Raises provider_error."""
        return read_models(body)

    def error_of_body(self, body: bytes) -> GatewayError:
        """Say what a document means that came under status 200 in place of a stream."""
        try:
            document = json_text.read(body)
        except json_text.UNREADABLE:
            return unreadable()
        return error_of_document(document) or unreadable()

    def decode_error(self, status: int, headers: Mapping[str, str], body: bytes) -> GatewayError:
        """Say what a refusal means, in the gateway's words. `headers` have lower-case names."""
        return error_of_answer(status, headers, body)

    def credential_headers(self, credential: str) -> tuple[tuple[str, str], ...]:
        """Return the headers that carry the credential; none for a server that wants none."""
        return self._wire.headers(credential) if credential else ()
