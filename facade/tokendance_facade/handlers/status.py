"""The handler of what works now: for everybody, with a key and without."""

from __future__ import annotations

from typing import Any

import grpc.aio

from tokendance.gateway.v1.status_service_pb2_grpc import StatusServiceStub
from tokendance_facade.answers import Header, Reply
from tokendance_facade.credentials import find_credential
from tokendance_facade.dialects import status
from tokendance_facade.exchange import Exchange
from tokendance_facade.handlers.calls import Calls

# As often as the state is judged anew. What a key sees is for its holder alone.
_SHARED: Header = ("cache-control", "public, max-age=5")
_OWN: Header = ("cache-control", "no-store")


class StatusHandlers:
    """Answers with the models that everybody sees; with a key, with those that it may call."""

    def __init__(self, channel: grpc.aio.Channel, calls: Calls, *, timeout_s: float) -> None:
        self._status: Any = StatusServiceStub(channel)
        self._calls = calls
        self._timeout_s = timeout_s

    async def get_status(self, exchange: Exchange) -> Reply:
        """Answer `GET /v1/status`."""
        credential = find_credential(exchange.request.headers, exchange.query)
        request = status.decode(exchange.query)
        answer = await self._calls.unary(exchange, credential, self._status.GetStatus, request, self._timeout_s)
        headers = (_SHARED if credential is None else _OWN,)
        return exchange.answer(200, status.encode(answer.status), headers=headers)
