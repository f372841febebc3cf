"""The part of the Facade servicer that keeps what the facade refused by itself."""

from __future__ import annotations

from typing import Any

import grpc.aio

from tokendance.gateway.v1 import facade_service_pb2 as pb
from tokendance_server.domain.usage.entries import OpenRequest
from tokendance_server.domain.usage.refused import Refused, RefusedRequests

Context = grpc.aio.ServicerContext[Any, Any]


class RefusedRpcs:
    """Serves RecordRefusals."""

    _refused: RefusedRequests

    async def RecordRefusals(self, request: pb.RecordRefusalsRequest, context: Context) -> pb.RecordRefusalsResponse:
        for one in request.refusals:
            await self._refused.keep(_refused(one))
        return pb.RecordRefusalsResponse()


def _refused(one: pb.RefusedRequest) -> Refused:
    caller = one.caller
    request = OpenRequest(
        request_id=caller.request_id,
        start_us=one.time.ToMicroseconds(),
        organization_id="",
        requested_model=one.model,
        surface=caller.surface,
        client_kind=caller.client_kind,
        client_version=caller.client_version,
        credential_kind=one.credential_kind,
        host=one.host,
        route=caller.http_route,
        address=caller.address,
    )
    return Refused(request, one.reason, one.message, one.secret)
