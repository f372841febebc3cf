"""Controlled issuance at the RPC edge: asking for keys, deciding, and revealing."""

from __future__ import annotations

from typing import Any

import grpc.aio

from tokendance.gateway.v1 import keys_service_pb2 as pb
from tokendance_server.domain.keys.key import KeyDraft
from tokendance_server.domain.keys.request import KeyRequest, RequestState
from tokendance_server.domain.keys.requests import KeyRequests, RequestQuery
from tokendance_server.domain.keys.rules import invalid
from tokendance_server.domain.names import child_name
from tokendance_server.services.call import call_of
from tokendance_server.services.key_messages import draft_message, new_key, timestamp, to_proto
from tokendance_server.services.origins import origin_of

Context = grpc.aio.ServicerContext[Any, Any]

_STATES = {state: pb.KeyRequestState.Value(f"KEY_REQUEST_STATE_{state.name}") for state in RequestState}
_STATES_BY_NUMBER = {number: state for state, number in _STATES.items()}


class IssuanceService:
    """Serves the part of KeysService that is about requests for keys."""

    def __init__(self, requests: KeyRequests) -> None:
        self._requests = requests

    async def RequestKey(self, request: pb.RequestKeyRequest, context: Context) -> pb.RequestKeyResponse:
        draft = new_key(request.key)
        call = call_of(context)
        asked = await self._requests.request(
            call.identity, request.parent, draft, request.request_id, origin=origin_of(call)
        )
        return pb.RequestKeyResponse(key_request=self._show(asked))

    async def ListKeyRequests(self, request: pb.ListKeyRequestsRequest, context: Context) -> pb.ListKeyRequestsResponse:
        query = RequestQuery(request.parent, request.page_size, request.page_token, _state_filter(request.state))
        found, next_page_token = await self._requests.list(call_of(context).identity, query)
        return pb.ListKeyRequestsResponse(
            key_requests=[self._show(one) for one in found], next_page_token=next_page_token
        )

    async def ApproveKeyRequest(
        self, request: pb.ApproveKeyRequestRequest, context: Context
    ) -> pb.ApproveKeyRequestResponse:
        wanted: KeyDraft | None = new_key(request.key) if request.HasField("key") else None
        call = call_of(context)
        granted = await self._requests.approve(
            call.identity, request.name, wanted, reason=request.reason, etag=request.etag, origin=origin_of(call)
        )
        return pb.ApproveKeyRequestResponse(key_request=self._show(granted))

    async def DenyKeyRequest(self, request: pb.DenyKeyRequestRequest, context: Context) -> pb.DenyKeyRequestResponse:
        call = call_of(context)
        denied = await self._requests.deny(
            call.identity, request.name, request.reason, etag=request.etag, origin=origin_of(call)
        )
        return pb.DenyKeyRequestResponse(key_request=self._show(denied))

    async def RevealKey(self, request: pb.RevealKeyRequest, context: Context) -> pb.RevealKeyResponse:
        call = call_of(context)
        key, secret = await self._requests.reveal(call.identity, request.name, origin=origin_of(call))
        return pb.RevealKeyResponse(key=to_proto(key, self._requests.now()), secret=secret)

    def _show(self, one: KeyRequest) -> pb.KeyRequest:
        key = draft_message(one.draft)
        if one.key_id:
            key.name = child_name(one.organization_id, "keys", one.key_id)
        return pb.KeyRequest(
            name=one.name,
            key=key,
            requester=one.requester,
            state=_STATES[one.state_at(self._requests.now())],
            decision_reason=one.decision_reason,
            decided_by=one.decided_by,
            create_time=timestamp(one.create_time),
            decide_time=timestamp(one.decide_time),
            reveal_expire_time=timestamp(one.reveal_expire_time),
            etag=one.etag,
        )


def _state_filter(number: pb.KeyRequestState.ValueType) -> RequestState | None:
    if number == pb.KEY_REQUEST_STATE_UNSPECIFIED:
        return None
    state = _STATES_BY_NUMBER.get(number)
    if state is None:
        raise invalid("state", "is not a state that this version of the gateway knows")
    return state
