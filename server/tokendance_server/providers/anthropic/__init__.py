"""Anthropic Messages, and every server compatible with it. Pure: messages in, bytes out.

What it cannot express, and what becomes of it:

    refused         several answers, log probabilities, output other than text; sound, and documents other than PDF and
                    plain text; content of another dialect; files by another dialect's id; tools in namespaces; a hosted
                    tool of another dialect that must be called; an order for structured output where the model has none
    left out, named seed, penalties, logit_bias, verbosity, prompt_cache_key, names of participants, detail of pictures,
                    hosted tools of other dialects, unknown fields of other dialects, reasoning of earlier turns without
                    a signature, sampling beside reasoning, reasoning beside a tool that must be called, grammars of
                    custom tools, the name and description of a schema
    changed, named  temperatures above 1, a missing output cap, JSON of any shape (an instruction takes its place),
                    instructions amid the conversation (they join the next user turn), efforts the model has no word for
    changed         custom tools become functions of one text; turns of one speaker are joined

A request of this same dialect is written as it came: of it only model, cap and a field's place may change.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

import msgspec

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import completion_pb2 as pb
from tokendance.gateway.v1 import errors_pb2
from tokendance.ids import new_id
from tokendance_server.providers import UpstreamRequest, json_text
from tokendance_server.providers.anthropic.answer import read_answer, unreadable
from tokendance_server.providers.anthropic.capabilities import BEARER, CAPABILITIES, check_capabilities
from tokendance_server.providers.anthropic.errors import error_of_answer, error_of_document
from tokendance_server.providers.anthropic.gaps import find_gaps
from tokendance_server.providers.anthropic.request import DEFAULT_OUTPUT_TOKENS, VERSION, dialect_headers, write_request
from tokendance_server.providers.anthropic.stream import AnthropicStreamDecoder
from tokendance_server.providers.openai.models import read_models
from tokendance_server.providers.sse import DEFAULT_EVENT_BYTES

__all__ = ["CAPABILITIES", "AnthropicCodec"]

_encode = msgspec.json.Encoder().encode


def mint_call_id() -> str:
    """Return an id for a tool call without one."""
    return new_id("call")


class AnthropicCodec:
    """The wire format of Anthropic Messages. `capabilities` are names of the table in capabilities.py."""

    models_path = "/models?limit=1000"

    def __init__(
        self,
        capabilities: Collection[str] = (),
        /,
        *,
        mint: Callable[[], str] = mint_call_id,
        event_bytes: int = DEFAULT_EVENT_BYTES,
    ) -> None:
        """Raise ValueError for an unknown capability.

        `mint` makes ids for tool calls without one; `event_bytes` is the largest event of a stream.
        """
        self._capabilities = check_capabilities(capabilities)
        self._mint = mint
        self._event_bytes = event_bytes

    def warnings(self, request: pb.CompletionRequest) -> Sequence[pb.Warning]:
        """Tell what would be left out; raises unsupported_parameter where that would change the answer."""
        return find_gaps(request, self._capabilities)

    def capped(self, request: pb.CompletionRequest, output_cap: int | None) -> pb.CompletionRequest:
        """Return the request with a cap on its answer, which this wire format must name."""
        if request.HasField("max_output_tokens"):
            return request
        capped = pb.CompletionRequest(max_output_tokens=output_cap or DEFAULT_OUTPUT_TOKENS)
        capped.MergeFrom(request)
        return capped

    def encode_completion(self, request: pb.CompletionRequest, model: str, *, stream: bool) -> UpstreamRequest:
        """Write the request for the upstream's model; `warnings` has let it pass."""
        body = write_request(request, model, stream=stream, capabilities=self._capabilities)
        return UpstreamRequest("/messages", _encode(body), dialect_headers(request))

    def decode_completion(self, body: bytes, request: pb.CompletionRequest) -> pb.Completion:
        """Read a whole answer. Raises provider_error, or the error that it holds."""
        return read_answer(body, request, self._mint)

    def stream_decoder(self, request: pb.CompletionRequest) -> AnthropicStreamDecoder:
        """Return a decoder for one streamed answer to `request`."""
        return AnthropicStreamDecoder(request, self._mint, self._event_bytes)

    def encode_embeddings(self, request: pb.EmbeddingsRequest, model: str) -> UpstreamRequest:
        """Refuse: this API has no embeddings. Raises unsupported_parameter."""
        raise _no_embeddings()

    def decode_embeddings(self, body: bytes, request: pb.EmbeddingsRequest) -> pb.Embeddings:
        """Refuse: this API has no embeddings. Raises unsupported_parameter."""
        raise _no_embeddings()

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
        """Return the headers that carry the credential, and the version of the API that is spoken."""
        version = (("anthropic-version", VERSION),)
        if not credential:
            return version
        if BEARER in self._capabilities:
            return (("authorization", f"Bearer {credential}"), *version)
        return (("x-api-key", credential), *version)


def _no_embeddings() -> GatewayError:
    return GatewayError(
        errors_pb2.ERROR_REASON_UNSUPPORTED_PARAMETER,
        "This model's provider makes no embeddings; choose a model of another one.",
        param="model",
        metadata={"param": "model"},
        origin="caller",
    )
