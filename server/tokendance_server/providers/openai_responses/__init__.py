"""OpenAI Responses towards upstreams. Pure: messages in, bytes out, and back.

A server that speaks Responses speaks Chat Completions, too, at the same address and with the same credential, so it
stays one provider of the kind `openai`, and says what it can by a capability. With `responses`, calls that came as
Responses go to `POST /responses` and all others to `POST /chat/completions`: each dialect reaches the server in its
own form, with every field that it came with, whichever route the model has. A kind of its own would make an operator
declare the server twice, and each model choose the one dialect that it serves faithfully. With `responses_only`, every
call goes there, for models that have no other way.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import msgspec

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import completion_pb2 as pb
from tokendance_server.providers import Codec, StreamDecoder, UpstreamRequest
from tokendance_server.providers.openai_responses.answer import read_answer
from tokendance_server.providers.openai_responses.gaps import find_gaps
from tokendance_server.providers.openai_responses.request import write_request
from tokendance_server.providers.openai_responses.stream import ResponsesStreamDecoder
from tokendance_server.providers.sse import DEFAULT_EVENT_BYTES

__all__ = ["ResponsesCodec"]

_encode = msgspec.json.Encoder().encode


class ResponsesCodec:
    """The two wire formats of a server, `chat` being the codec of the other one.

    Calls that came as Responses go as such, to `path`; with `only`, all do. Everything but completions is as `chat` has
    it. `mint` makes ids for calls of servers that give none; `event_bytes` is the largest event of a stream.
    """

    def __init__(
        self,
        chat: Codec,
        *,
        only: bool = False,
        path: str = "/responses",
        mint: Callable[[], str],
        event_bytes: int = DEFAULT_EVENT_BYTES,
    ) -> None:
        self.models_path = chat.models_path
        self._chat = chat
        self._only = only
        self._path = path
        self._mint = mint
        self._event_bytes = event_bytes

    def warnings(self, request: pb.CompletionRequest) -> Sequence[pb.Warning]:
        """Tell what would be left out; raises unsupported_parameter where that would change the answer."""
        return find_gaps(request) if self._speaks(request) else self._chat.warnings(request)

    def encode_completion(self, request: pb.CompletionRequest, model: str, *, stream: bool) -> UpstreamRequest:
        """Write the request for the upstream's model; `warnings` has let it pass."""
        if not self._speaks(request):
            return self._chat.encode_completion(request, model, stream=stream)
        return UpstreamRequest(self._path, _encode(write_request(request, model, stream=stream)))

    def decode_completion(self, body: bytes, request: pb.CompletionRequest) -> pb.Completion:
        """Read a whole answer. Raises provider_error, or the error that it holds."""
        if not self._speaks(request):
            return self._chat.decode_completion(body, request)
        return read_answer(body, request, self._mint)

    def stream_decoder(self, request: pb.CompletionRequest) -> StreamDecoder:
        """Return a decoder for one streamed answer to `request`."""
        if not self._speaks(request):
            return self._chat.stream_decoder(request)
        return ResponsesStreamDecoder(request, self._mint, self._event_bytes)

    def encode_embeddings(self, request: pb.EmbeddingsRequest, model: str) -> UpstreamRequest:
        """Write the request for vectors."""
        return self._chat.encode_embeddings(request, model)

    def decode_embeddings(self, body: bytes, request: pb.EmbeddingsRequest) -> pb.Embeddings:
        """Read vectors. Raises provider_error, or the error that the body holds."""
        return self._chat.decode_embeddings(body, request)

    def decode_models(self, body: bytes) -> Sequence[str]:
        """Read `GET /models`. Raises provider_error."""
        return self._chat.decode_models(body)

    def error_of_body(self, body: bytes) -> GatewayError:
        """Say what a document means that came under status 200 in place of a stream."""
        return self._chat.error_of_body(body)

    def decode_error(self, status: int, headers: Mapping[str, str], body: bytes) -> GatewayError:
        """Say what a refusal means, in the gateway's words. `headers` have lower-case names."""
        return self._chat.decode_error(status, headers, body)

    def credential_headers(self, credential: str) -> tuple[tuple[str, str], ...]:
        """Return the headers that carry the credential."""
        return self._chat.credential_headers(credential)

    def _speaks(self, request: pb.CompletionRequest) -> bool:
        return self._only or request.dialect == pb.DIALECT_OPENAI_RESPONSES
