"""Google Gemini: generateContent, streamGenerateContent, batchEmbedContents and the list of models. Pure.

What this dialect cannot express, and what becomes of it:

Refused with unsupported_parameter, because the answer would be another one: names of tools that it does not take, a
choice of a tool that it is not given, answers in sound, more than five texts to stop at, pictures, sound and documents
by id, by address too unless the server fetches them (`url_media`), instructions that are no text, content of another
dialect, token ids to embed. So are custom tools and namespaces of tools, of which the table of wire formats makes
functions before they come here.

Left out and named in a warning: hosted tools, `strict` of tools, the choice against parallel calls, keywords of a JSON
Schema that it does not know (schema.py), bias of tokens, seeds of more than 32 bits, names of speakers, instructions
after the beginning (sent as the user's words), reasoning of earlier turns without a signature of this dialect, efforts
that the model cannot follow, how closely to look at a picture, marks for caches, the end user's name, service tiers,
verbosity, and every unknown field of a caller's dialect.

Kept across turns: thought signatures (signatures.py). An answer in several hops is asked for to its end and joined
(continuing.py).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

import msgspec

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import completion_pb2 as pb
from tokendance.ids import new_id
from tokendance_server.providers import UpstreamRequest, json_text
from tokendance_server.providers.gemini import capabilities as can
from tokendance_server.providers.gemini.answer import read_answer, read_document, text_of, unreadable
from tokendance_server.providers.gemini.capabilities import CAPABILITIES, check_capabilities
from tokendance_server.providers.gemini.embeddings import read_embeddings, write_embeddings
from tokendance_server.providers.gemini.errors import error_of_answer, error_of_document
from tokendance_server.providers.gemini.gaps import find_gaps
from tokendance_server.providers.gemini.request import model_path, write_request
from tokendance_server.providers.gemini.stream import GeminiStreamDecoder
from tokendance_server.providers.sse import DEFAULT_EVENT_BYTES

__all__ = ["CAPABILITIES", "GeminiCodec"]

_encode = msgspec.json.Encoder().encode
_MOST_MODELS = 10_000


def _mint_call_id() -> str:
    return new_id("call")


class GeminiCodec:
    """The wire format of Gemini servers, below an address such as `https://host/v1beta`.

    `capabilities` are names of the table in capabilities.py; an unknown one raises ValueError. `mint` makes ids for
    tool calls without one; `event_bytes` is the largest event of a stream.
    """

    models_path = "/models?pageSize=1000"

    def __init__(
        self,
        capabilities: Collection[str] = (),
        /,
        *,
        mint: Callable[[], str] = _mint_call_id,
        event_bytes: int = DEFAULT_EVENT_BYTES,
    ) -> None:
        self._capabilities = check_capabilities(capabilities)
        self._mint = mint
        self._event_bytes = event_bytes

    def warnings(self, request: pb.CompletionRequest) -> Sequence[pb.Warning]:
        """Tell what would be left out; raises unsupported_parameter where that would change the answer."""
        return find_gaps(request, self._capabilities)

    def encode_completion(self, request: pb.CompletionRequest, model: str, *, stream: bool) -> UpstreamRequest:
        """Write the request for the upstream's model; `warnings` has let it pass."""
        method = "streamGenerateContent?alt=sse" if stream else "generateContent"
        return UpstreamRequest(model_path(model, method), _encode(write_request(request, self._capabilities)))

    def decode_completion(self, body: bytes, request: pb.CompletionRequest) -> pb.Completion:
        """Read a whole answer. Raises provider_error, or the error that it holds."""
        return read_answer(body, request, self._mint)

    def stream_decoder(self, request: pb.CompletionRequest) -> GeminiStreamDecoder:
        """Return a decoder for one streamed answer to `request`."""
        return GeminiStreamDecoder(request, self._mint, self._event_bytes)

    def encode_embeddings(self, request: pb.EmbeddingsRequest, model: str) -> UpstreamRequest:
        """Write the request for vectors."""
        return UpstreamRequest(model_path(model, "batchEmbedContents"), _encode(write_embeddings(request, model)))

    def decode_embeddings(self, body: bytes, request: pb.EmbeddingsRequest) -> pb.Embeddings:
        """Read vectors. Raises provider_error, or the error that the body holds."""
        return read_embeddings(body, request)

    def decode_models(self, body: bytes) -> Sequence[str]:
        """Read `GET /models`, sorted, each name once and without the word `models/`. Raises provider_error."""
        listed = read_document(body).get("models")
        if not isinstance(listed, list):
            raise unreadable()
        names = {text_of(one.get("name")).removeprefix("models/") for one in listed if isinstance(one, dict)}
        return sorted(names - {""})[:_MOST_MODELS]

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
        if not credential:
            return ()
        if can.BEARER in self._capabilities:
            return (("authorization", f"Bearer {credential}"),)
        return (("x-goog-api-key", credential),)
