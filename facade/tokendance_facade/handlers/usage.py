"""Handlers of what a key's holder may know of its requests and their sums."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import grpc.aio
import orjson

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import errors_pb2, quota_service_pb2
from tokendance.gateway.v1.quota_service_pb2_grpc import QuotaServiceStub
from tokendance_facade.answers import Reply
from tokendance_facade.credentials import read_credential
from tokendance_facade.dialects import usage_reports
from tokendance_facade.exchange import Exchange
from tokendance_facade.handlers.calls import Calls

_MAX_ID = 200


class UsageHandlers:
    """One method for each path. Without a credential all are refused."""

    def __init__(self, channel: grpc.aio.Channel, calls: Calls, *, timeout_s: float) -> None:
        self._quota: Any = QuotaServiceStub(channel)
        self._calls = calls
        self._timeout_s = timeout_s

    async def get_usage(self, exchange: Exchange) -> Reply:
        """Answer `GET /v1/usage` with the sums of the calling key."""
        credential = read_credential(exchange.request.headers, exchange.query)
        request, words = usage_reports.decode(exchange.query, datetime.now(UTC))
        answer = await self._calls.unary(exchange, credential, self._quota.GetUsage, request, self._timeout_s)
        return exchange.answer(200, orjson.dumps(usage_reports.report(answer, words)))

    async def get_request(self, exchange: Exchange) -> Reply:
        """Answer `GET /v1/requests/{id}` with the record of one request of the calling key."""
        credential = read_credential(exchange.request.headers, exchange.query)
        if len(exchange.tail) > _MAX_ID or not exchange.tail.isprintable():
            raise GatewayError(
                errors_pb2.ERROR_REASON_NOT_FOUND, "No request has this id.", param="id", origin="caller"
            )
        request = quota_service_pb2.GetRequestRequest(name=exchange.tail)
        answer = await self._calls.unary(exchange, credential, self._quota.GetRequest, request, self._timeout_s)
        return exchange.answer(200, orjson.dumps(usage_reports.request(answer.request)))
