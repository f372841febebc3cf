"""Handlers of what a key's holder may know of its limits."""

from __future__ import annotations

from typing import Any

import grpc.aio

from tokendance.gateway.v1 import quota_service_pb2
from tokendance.gateway.v1.quota_service_pb2_grpc import QuotaServiceStub
from tokendance_facade.answers import Reply
from tokendance_facade.credentials import read_credential
from tokendance_facade.dialects import quotas
from tokendance_facade.exchange import Exchange
from tokendance_facade.handlers.calls import Calls


class QuotaHandlers:
    """One method for each path. Without a credential all are refused."""

    def __init__(self, channel: grpc.aio.Channel, calls: Calls, *, timeout_s: float) -> None:
        self._quota: Any = QuotaServiceStub(channel)
        self._calls = calls
        self._timeout_s = timeout_s

    async def get_quota(self, exchange: Exchange) -> Reply:
        """Answer `GET /v1/quota` with the calling key's limits and those above it."""
        credential = read_credential(exchange.request.headers, exchange.query)
        request = quota_service_pb2.GetQuotaRequest(include_inherited=True)
        answer = await self._calls.unary(exchange, credential, self._quota.GetQuota, request, self._timeout_s)
        return exchange.answer(200, quotas.encode(answer.quota, answer.inherited))
