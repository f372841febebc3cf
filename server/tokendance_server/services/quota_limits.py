"""The part of the Quota servicer that sets and reads limits: decode, one call of the domain, encode."""

from __future__ import annotations

from typing import Any

import grpc.aio

from tokendance.gateway.v1 import quota_service_pb2 as pb
from tokendance_server.domain.clock import Clock
from tokendance_server.domain.quota.quotas import Quotas
from tokendance_server.services.call import call_of
from tokendance_server.services.origins import origin_of
from tokendance_server.services.quota_messages import quota_message, subject_kind, wanted_limits

Context = grpc.aio.ServicerContext[Any, Any]


class LimitsService:
    """Serves GetQuota, ListQuotas and SetQuota."""

    def __init__(self, quotas: Quotas, clock: Clock) -> None:
        self._quotas = quotas
        self._quota_clock = clock

    async def GetQuota(self, request: pb.GetQuotaRequest, context: Context) -> pb.GetQuotaResponse:
        """Return one subject's limits."""
        caller = call_of(context).identity
        view = await self._quotas.get(caller, request.subject)
        above = await self._quotas.above(caller, view) if request.include_inherited else []
        now = self._quota_clock.now()
        return pb.GetQuotaResponse(quota=quota_message(view, now), inherited=[quota_message(one, now) for one in above])

    async def ListQuotas(self, request: pb.ListQuotasRequest, context: Context) -> pb.ListQuotasResponse:
        """Return a page of quotas."""
        views, token = await self._quotas.list(
            call_of(context).identity,
            request.parent,
            page_size=request.page_size,
            page_token=request.page_token,
            kind=subject_kind(request.subject_kind),
            used_percent=request.used_percent,
        )
        now = self._quota_clock.now()
        return pb.ListQuotasResponse(quotas=[quota_message(one, now) for one in views], next_page_token=token)

    async def SetQuota(self, request: pb.SetQuotaRequest, context: Context) -> pb.SetQuotaResponse:
        """Put new limits in place."""
        call = call_of(context)
        after, before = await self._quotas.set(
            call.identity,
            request.quota.subject,
            wanted_limits(request.quota),
            etag=request.quota.etag,
            reason=request.reason,
            validate_only=request.validate_only,
            origin=origin_of(call),
        )
        now = self._quota_clock.now()
        return pb.SetQuotaResponse(quota=quota_message(after, now), previous=quota_message(before, now))
