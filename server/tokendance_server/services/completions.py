"""The Completions servicer: decode, one call of the domain, encode."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import grpc.aio

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import completions_service_pb2 as pb
from tokendance.gateway.v1 import completions_service_pb2_grpc as pb_grpc
from tokendance.gateway.v1 import errors_pb2
from tokendance.gateway.v1.completion_pb2 import CallAccount
from tokendance.rpc import ACCOUNT_KEY
from tokendance_server.domain.completions import Completions
from tokendance_server.services.call import Call, Trust, call_of

Context = grpc.aio.ServicerContext[Any, Any]


class CompletionsService(pb_grpc.CompletionsServiceServicer):
    """Serves model calls."""

    def __init__(self, completions: Completions) -> None:
        self._completions = completions

    async def CreateCompletion(
        self, request: pb.CreateCompletionRequest, context: Context
    ) -> pb.CreateCompletionResponse:
        """Answer a conversation in one message."""
        _refuse_idempotency_key(request.idempotency_key)
        call = call_of(context)
        completion = await self._completions.create(request.completion, call)
        _tell(call, completion.account)
        return pb.CreateCompletionResponse(completion=completion)

    async def StreamCompletion(
        self, request: pb.StreamCompletionRequest, context: Context
    ) -> AsyncIterator[pb.StreamCompletionResponse]:
        """Answer a conversation as a stream of events."""
        _refuse_idempotency_key(request.idempotency_key)
        call = call_of(context)
        batches = self._completions.stream(request.completion, call)
        try:
            async for events in batches:
                if events[-1].WhichOneof("event") == "finished":
                    _tell(call, events[-1].finished.account)
                yield pb.StreamCompletionResponse(events=events)
        finally:
            await batches.aclose()  # type: ignore[attr-defined]

    async def CreateEmbeddings(
        self, request: pb.CreateEmbeddingsRequest, context: Context
    ) -> pb.CreateEmbeddingsResponse:
        """Turn texts into vectors."""
        call = call_of(context)
        embeddings = await self._completions.embed(request.embeddings, call)
        _tell(call, embeddings.account)
        return pb.CreateEmbeddingsResponse(embeddings=embeddings)

    async def CountTokens(self, request: pb.CountTokensRequest, context: Context) -> pb.CountTokensResponse:
        """Tell how many tokens a prompt has: an estimate from what providers counted, unless it can be counted."""
        tokens, estimated = await self._completions.count(request.completion, call_of(context))
        return pb.CountTokensResponse(input_tokens=tokens, estimated=estimated)

    async def ExplainCompletion(
        self, request: pb.ExplainCompletionRequest, context: Context
    ) -> pb.ExplainCompletionResponse:
        """Tell what would happen to a call, and call nobody."""
        return await self._completions.explain(request.completion, call_of(context))


def _tell(call: Call, account: CallAccount) -> None:
    """Put what a call cost behind its answer, too, for callers who look there; the facade reads it in the answer."""
    if call.trust is not Trust.FACADE:
        call.add_trailing((ACCOUNT_KEY, account.SerializeToString()))


def _refuse_idempotency_key(key: str) -> None:
    """Refuse what cannot be kept: a caller who sends a key must not be charged twice in silence."""
    if key:
        raise GatewayError(
            errors_pb2.ERROR_REASON_UNSUPPORTED_PARAMETER,
            "Idempotency keys are not served by this version; send the call without one.",
            param="idempotency_key",
            origin="caller",
        )
