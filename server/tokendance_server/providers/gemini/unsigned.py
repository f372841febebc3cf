"""A turn whose signature the upstream does not know is sent once more without it.

Signatures come back to whoever serves the next turn; where a conversation goes on at another account, or at a model of
another make, they are refused. What is lost with them is the model's own memory of its reasoning, not the answer.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing

from tokendance.gateway.v1 import completion_pb2 as pb
from tokendance_server.domain.upstream import Upstream, UpstreamCall
from tokendance_server.providers import json_text
from tokendance_server.providers.gemini.errors import SignatureRefusedError
from tokendance_server.providers.gemini.signatures import CHAT_FIELD, signature_of_call, signature_of_reasoning

Events = Sequence[pb.CompletionEvent]


class UnsignedUpstream:
    """Asks another upstream, and once more without signatures where it refuses them. Satisfies Upstream."""

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream

    async def complete(self, request: pb.CompletionRequest, call: UpstreamCall) -> pb.Completion:
        """Answer in one message."""
        try:
            return await self._upstream.complete(request, call)
        except SignatureRefusedError:
            if not is_signed(request):
                raise
        return await self._upstream.complete(unsigned(request), call)

    async def stream(self, request: pb.CompletionRequest, call: UpstreamCall) -> AsyncIterator[Events]:
        """Answer as batches of events; a refusal comes before the first."""
        try:
            async with aclosing(self._upstream.stream(request, call)) as batches:  # type: ignore[type-var]
                async for events in batches:
                    yield events
            return
        except SignatureRefusedError:
            if not is_signed(request):
                raise
        async with aclosing(self._upstream.stream(unsigned(request), call)) as batches:  # type: ignore[type-var]
            async for events in batches:
                yield events

    async def embed(self, request: pb.EmbeddingsRequest, call: UpstreamCall) -> pb.Embeddings:
        """Turn texts into vectors."""
        return await self._upstream.embed(request, call)

    async def discover(self, call: UpstreamCall) -> Sequence[str]:
        """Ask which models the provider has."""
        return await self._upstream.discover(call)

    def warnings(self, request: pb.CompletionRequest) -> Sequence[pb.Warning]:
        """Tell what would be left out; raises unsupported_parameter where that would change the answer."""
        return self._upstream.warnings(request)


def is_signed(request: pb.CompletionRequest) -> bool:
    """Tell whether a request brings a signature back."""
    return any(
        signature_of_call(part) if part.HasField("tool_call") else signature_of_reasoning(part.reasoning)
        for message in request.messages
        for part in message.parts
    )


def unsigned(request: pb.CompletionRequest) -> pb.CompletionRequest:
    """Return a copy of a request without the signatures in it."""
    plain = pb.CompletionRequest()
    plain.CopyFrom(request)
    for message in plain.messages:
        for part in message.parts:
            if part.HasField("reasoning") and signature_of_reasoning(part.reasoning):
                part.reasoning.signature = part.reasoning.encrypted_content = ""
            elif part.HasField("tool_call"):
                part.tool_call.signature = b""
                if part.extra_json:
                    extra = json_text.caller_extra(part.extra_json, "extra_json")
                    extra.pop(CHAT_FIELD, None)
                    part.extra_json = json_text.write_object(extra)
    return plain
