"""The asyncio client: the same methods as the synchronous one, awaited."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self, cast

import grpc
import grpc.aio

from tokendance.aio_channel import AsyncAnswerStream, AsyncCallingChannel
from tokendance.connection import STREAM_TIMEOUT_S, UNARY_TIMEOUT_S, call_defaults, channel_options
from tokendance.gateway.v1 import completion_pb2 as pb
from tokendance.gateway.v1 import completions_service_pb2 as completions_pb
from tokendance.gateway.v1 import keys_service_pb2 as keys_pb
from tokendance.gateway.v1 import models_service_pb2 as models_pb
from tokendance.gateway.v1 import quota_service_pb2 as quota_pb
from tokendance.gateway.v1 import status_service_pb2 as status_pb
from tokendance.gateway.v1 import usage_pb2 as usage_pb
from tokendance.gateway.v1.audit_service_pb2_grpc import AuditServiceStub
from tokendance.gateway.v1.completions_service_pb2_grpc import CompletionsServiceStub
from tokendance.gateway.v1.keys_service_pb2_grpc import KeysServiceStub
from tokendance.gateway.v1.models_service_pb2_grpc import ModelsServiceStub
from tokendance.gateway.v1.nodes_service_pb2_grpc import NodesServiceStub
from tokendance.gateway.v1.organizations_service_pb2_grpc import OrganizationsServiceStub
from tokendance.gateway.v1.quota_service_pb2_grpc import QuotaServiceStub
from tokendance.gateway.v1.status_service_pb2_grpc import StatusServiceStub
from tokendance.requests import completion_request, embeddings_request
from tokendance.streams import AsyncCompletionStream

if TYPE_CHECKING:
    # Names that only the generated .pyi files have.
    from tokendance.gateway.v1.audit_service_pb2_grpc import AuditServiceAsyncStub
    from tokendance.gateway.v1.completions_service_pb2_grpc import CompletionsServiceAsyncStub
    from tokendance.gateway.v1.keys_service_pb2_grpc import KeysServiceAsyncStub
    from tokendance.gateway.v1.models_service_pb2_grpc import ModelsServiceAsyncStub
    from tokendance.gateway.v1.nodes_service_pb2_grpc import NodesServiceAsyncStub
    from tokendance.gateway.v1.organizations_service_pb2_grpc import OrganizationsServiceAsyncStub
    from tokendance.gateway.v1.quota_service_pb2_grpc import QuotaServiceAsyncStub
    from tokendance.gateway.v1.status_service_pb2_grpc import StatusServiceAsyncStub


@dataclass(frozen=True, slots=True)
class AsyncStubs:
    """The generated stubs: every RPC. Credential, deadline and GatewayError are added to each call."""

    completions: CompletionsServiceAsyncStub
    keys: KeysServiceAsyncStub
    models: ModelsServiceAsyncStub
    organizations: OrganizationsServiceAsyncStub
    quota: QuotaServiceAsyncStub
    status: StatusServiceAsyncStub
    audit: AuditServiceAsyncStub
    nodes: NodesServiceAsyncStub


class AsyncClient:
    """Calls the gateway over gRPC. Belongs to one event loop; close it, or use it in an `async with`.

    `target` is `host:port` or `unix:PATH` (None: TOKENDANCE_GRPC_TARGET, else 127.0.0.1:50051). `api_key` is
    a TokenDance API key (None: TOKENDANCE_API_KEY; empty: none is sent). `credentials` switch TLS on. A
    `channel` that is handed in is used as it is and never closed here. Timeouts are in seconds, for calls
    that name none; the gateway's own, 600 and 3,600, are the most.

    Every method raises GatewayError with a stable code, the request id, and whether a repeat may help.
    `tokendance.last_request_id()` is the request id of the newest answer.
    """

    def __init__(
        self,
        target: str | None = None,
        *,
        api_key: str | None = None,
        credentials: grpc.ChannelCredentials | None = None,
        channel: grpc.aio.Channel | None = None,
        timeout_s: float = UNARY_TIMEOUT_S,
        stream_timeout_s: float = STREAM_TIMEOUT_S,
    ) -> None:
        """Prepare only: the first call connects. Raises ValueError for a key or timeout that cannot be."""
        defaults = call_defaults(target, api_key, timeout_s, stream_timeout_s)
        self._owned: grpc.aio.Channel | None = None
        if channel is None:
            channel = self._owned = _open(defaults.target, credentials)
        calling = cast("grpc.aio.Channel", AsyncCallingChannel(channel, defaults))
        self.stubs = AsyncStubs(
            completions=CompletionsServiceStub(calling),
            keys=KeysServiceStub(calling),
            models=ModelsServiceStub(calling),
            organizations=OrganizationsServiceStub(calling),
            quota=QuotaServiceStub(calling),
            status=StatusServiceStub(calling),
            audit=AuditServiceStub(calling),
            nodes=NodesServiceStub(calling),
        )

    async def close(self) -> None:
        """Close the channel and end the calls that still run; harmless when repeated."""
        if self._owned is not None:
            await self._owned.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def complete(
        self,
        model: str | pb.CompletionRequest,
        messages: str | Sequence[pb.Message] = (),
        *,
        system: str = "",
        max_output_tokens: int | None = None,
        temperature: float | None = None,
        stop: Sequence[str] = (),
        idempotency_key: str = "",
        timeout_s: float | None = None,
    ) -> pb.Completion:
        """Return a whole answer; `text_of` reads it.

        `messages` is one text of the user, or a conversation. A CompletionRequest in place of the model's
        name says everything itself.
        """
        completion = completion_request(
            model,
            messages,
            system=system,
            max_output_tokens=max_output_tokens,
            temperature=temperature,
            stop=stop,
        )
        request = completions_pb.CreateCompletionRequest(completion=completion, idempotency_key=idempotency_key)
        return (await self.stubs.completions.CreateCompletion(request, timeout=timeout_s)).completion

    def stream(
        self,
        model: str | pb.CompletionRequest,
        messages: str | Sequence[pb.Message] = (),
        *,
        system: str = "",
        max_output_tokens: int | None = None,
        temperature: float | None = None,
        stop: Sequence[str] = (),
        idempotency_key: str = "",
        timeout_s: float | None = None,
    ) -> AsyncCompletionStream:
        """Return an answer as it is produced. Arguments as for `complete`; errors come while it is read."""
        completion = completion_request(
            model,
            messages,
            system=system,
            max_output_tokens=max_output_tokens,
            temperature=temperature,
            stop=stop,
        )
        request = completions_pb.StreamCompletionRequest(completion=completion, idempotency_key=idempotency_key)
        # The generated stubs cannot say that the calling channel's streams know their request id.
        replies = self.stubs.completions.StreamCompletion(request, timeout=timeout_s)
        return AsyncCompletionStream(cast("AsyncAnswerStream[completions_pb.StreamCompletionResponse]", replies))

    async def embed(
        self,
        model: str | pb.EmbeddingsRequest,
        inputs: str | Sequence[str] = (),
        *,
        dimensions: int | None = None,
        timeout_s: float | None = None,
    ) -> pb.Embeddings:
        """Return vectors, in the order of the inputs; `vector_of` reads one."""
        embeddings = embeddings_request(model, inputs, dimensions=dimensions)
        request = completions_pb.CreateEmbeddingsRequest(embeddings=embeddings)
        return (await self.stubs.completions.CreateEmbeddings(request, timeout=timeout_s)).embeddings

    async def explain(
        self,
        model: str | pb.CompletionRequest,
        messages: str | Sequence[pb.Message] = (),
        *,
        timeout_s: float | None = None,
    ) -> completions_pb.ExplainCompletionResponse:
        """Return what would happen to a call: admitted or why not, route, limits. Nothing is spent."""
        request = completions_pb.ExplainCompletionRequest(completion=completion_request(model, messages))
        return await self.stubs.completions.ExplainCompletion(request, timeout=timeout_s)

    async def count_tokens(
        self,
        model: str | pb.CompletionRequest,
        messages: str | Sequence[pb.Message] = (),
        *,
        timeout_s: float | None = None,
    ) -> completions_pb.CountTokensResponse:
        """Return the size of a prompt in tokens, without calling the model."""
        request = completions_pb.CountTokensRequest(completion=completion_request(model, messages))
        return await self.stubs.completions.CountTokens(request, timeout=timeout_s)

    async def list_models(
        self, *, page_size: int = 0, timeout_s: float | None = None
    ) -> AsyncIterator[models_pb.Model]:
        """Yield the models that the caller may call, page by page; the timeout is for one page."""
        request = models_pb.ListModelsRequest(page_size=page_size)
        while True:
            page = await self.stubs.models.ListModels(request, timeout=timeout_s)
            for model in page.models:
                yield model
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    async def get_model(self, name: str, *, timeout_s: float | None = None) -> models_pb.Model:
        """Return one model by name or alias; raises model_not_found or model_not_allowed."""
        return (await self.stubs.models.GetModel(models_pb.GetModelRequest(name=name), timeout=timeout_s)).model

    async def create_key(
        self, parent: str, key: keys_pb.Key, *, request_id: str = "", timeout_s: float | None = None
    ) -> keys_pb.CreateKeyResponse:
        """Create a key in `organizations/{organization}`; the answer alone holds the secret.

        A repeat with the same `request_id` returns the key without it.
        """
        request = keys_pb.CreateKeyRequest(parent=parent, key=key, request_id=request_id)
        return await self.stubs.keys.CreateKey(request, timeout=timeout_s)

    async def get_key(self, name: str, *, timeout_s: float | None = None) -> keys_pb.Key:
        """Return a key without its secret, by `organizations/{o}/keys/{k}` or its id; raises not_found."""
        return (await self.stubs.keys.GetKey(keys_pb.GetKeyRequest(name=name), timeout=timeout_s)).key

    async def list_keys(
        self,
        parent: str = "organizations/-",
        *,
        team: str = "",
        owner: str = "",
        state: keys_pb.KeyState.ValueType = keys_pb.KEY_STATE_UNSPECIFIED,
        rotation_overdue: bool = False,
        page_size: int = 0,
        timeout_s: float | None = None,
    ) -> AsyncIterator[keys_pb.Key]:
        """Yield keys, newest first, page by page; the timeout is for one page."""
        request = keys_pb.ListKeysRequest(
            parent=parent,
            team=team,
            owner=owner,
            state=state,
            rotation_overdue=rotation_overdue,
            page_size=page_size,
        )
        while True:
            page = await self.stubs.keys.ListKeys(request, timeout=timeout_s)
            for key in page.keys:
                yield key
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    async def revoke_key(self, name: str, *, reason: str = "", timeout_s: float | None = None) -> keys_pb.Key:
        """End a key for good, on every node within one second. Idempotent."""
        request = keys_pb.RevokeKeyRequest(name=name, reason=reason)
        return (await self.stubs.keys.RevokeKey(request, timeout=timeout_s)).key

    async def get_quota(
        self, subject: str = "", *, include_inherited: bool = False, timeout_s: float | None = None
    ) -> quota_pb.GetQuotaResponse:
        """Return limits with what is spent, held and left; of the calling key where no subject is named."""
        request = quota_pb.GetQuotaRequest(subject=subject, include_inherited=include_inherited)
        return await self.stubs.quota.GetQuota(request, timeout=timeout_s)

    async def get_request(self, request_id: str, *, timeout_s: float | None = None) -> usage_pb.RequestRecord:
        """Return the support record of one call by its request id; raises not_found."""
        request = quota_pb.GetRequestRequest(name=request_id)
        return (await self.stubs.quota.GetRequest(request, timeout=timeout_s)).request

    async def get_status(self, *, history_days: int = 0, timeout_s: float | None = None) -> status_pb.StatusSnapshot:
        """Return the gateway's state of now, and up to 90 days of history."""
        request = status_pb.GetStatusRequest(history_days=history_days)
        return (await self.stubs.status.GetStatus(request, timeout=timeout_s)).status


def _open(target: str, credentials: grpc.ChannelCredentials | None) -> grpc.aio.Channel:
    if credentials is None:
        return grpc.aio.insecure_channel(target, options=channel_options())
    return grpc.aio.secure_channel(target, credentials, options=channel_options())
