"""The Completions servicer: decode, one call of the domain, encode."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import grpc.aio

from tokendance.gateway.v1 import completions_service_pb2 as pb
from tokendance.gateway.v1 import completions_service_pb2_grpc as pb_grpc
from tokendance.gateway.v1.completion_pb2 import CallAccount
from tokendance.rpc import ACCOUNT_KEY
from tokendance_server.domain.completions import Completions
from tokendance_server.domain.replay.replays import Replays
from tokendance_server.domain.replay.tickets import Ticket, ticket_of
from tokendance_server.services.call import Call, Trust, call_of
from tokendance_server.services.credentials import bearer_of

Context = grpc.aio.ServicerContext[Any, Any]


class CompletionsService(pb_grpc.CompletionsServiceServicer):
    """Serves model calls."""

    def __init__(self, completions: Completions, replays: Replays) -> None:
        self._completions = completions
        self._replays = replays

    async def CreateCompletion(
        self, request: pb.CreateCompletionRequest, context: Context
    ) -> pb.CreateCompletionResponse:
        """Answer a conversation in one message."""
        call = call_of(context)
        if request.idempotency_key:
            ticket = _ticket(call, request)
            completion = await self._replays.create(request.completion, call, ticket)
        else:
            completion = await self._completions.create(request.completion, call)
        _tell(call, completion.account)
        return pb.CreateCompletionResponse(completion=completion)

    async def StreamCompletion(
        self, request: pb.StreamCompletionRequest, context: Context
    ) -> AsyncIterator[pb.StreamCompletionResponse]:
        """Answer a conversation as a stream of events."""
        call = call_of(context)
        if request.idempotency_key:
            batches = self._replays.stream(request.completion, call, _ticket(call, request))
        else:
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


def _ticket(call: Call, request: pb.CreateCompletionRequest | pb.StreamCompletionRequest) -> Ticket:
    """Return what the presented secret makes of the idempotency key. The secret itself goes no further."""
    secret = bearer_of(call.invocation_metadata() or ())
    assert secret is not None
    return ticket_of(secret, request.idempotency_key, call.method, request.completion)
