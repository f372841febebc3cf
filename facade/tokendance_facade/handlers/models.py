"""Handlers of the catalogue as callers see it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import grpc.aio

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import errors_pb2, models_service_pb2
from tokendance.gateway.v1.models_service_pb2_grpc import ModelsServiceStub
from tokendance_facade.answers import Reply
from tokendance_facade.anthropic_headers import speaks_anthropic
from tokendance_facade.credentials import read_credential
from tokendance_facade.dialects import models
from tokendance_facade.dialects.messages import models as anthropic_models
from tokendance_facade.exchange import Exchange
from tokendance_facade.handlers.calls import Calls

_PAGE_SIZE = 1000
_MAX_PAGES = 100
_MAX_ID = 256


class ModelHandlers:
    """One method for each path. Without a credential both are refused."""

    def __init__(self, channel: grpc.aio.Channel, calls: Calls, *, timeout_s: float) -> None:
        self._models: Any = ModelsServiceStub(channel)
        self._calls = calls
        self._timeout_s = timeout_s

    async def list_models(self, exchange: Exchange) -> Reply:
        """Answer `GET /v1/models` with everything at once, as OpenAI does, or a page of it, as Anthropic does."""
        page_of = self._page(exchange)
        credential = read_credential(exchange.request.headers, exchange.query)
        found: list[models_service_pb2.Model] = []
        page_token = ""
        for _ in range(_MAX_PAGES):
            request = models_service_pb2.ListModelsRequest(page_size=_PAGE_SIZE, page_token=page_token)
            page = await self._calls.unary(exchange, credential, self._models.ListModels, request, self._timeout_s)
            found.extend(page.models)
            page_token = page.next_page_token
            if not page_token:
                break
        if page_of is not None:
            return exchange.answer(200, anthropic_models.encode_list(found, page_of, datetime.now(UTC)))
        return exchange.answer(200, models.encode_list(found))

    async def get_model(self, exchange: Exchange) -> Reply:
        """Answer `GET /v1/models/{id}`, where an id may hold slashes."""
        page_of = self._page(exchange)
        credential = read_credential(exchange.request.headers, exchange.query)
        if len(exchange.tail) > _MAX_ID or not exchange.tail.isprintable():
            raise GatewayError(
                errors_pb2.ERROR_REASON_MODEL_NOT_FOUND, "No model has this name.", param="model", origin="caller"
            )
        request = models_service_pb2.GetModelRequest(name=f"models/{exchange.tail}")
        answer = await self._calls.unary(exchange, credential, self._models.GetModel, request, self._timeout_s)
        if page_of is not None:
            return exchange.answer(200, anthropic_models.encode_one(answer.model, datetime.now(UTC)))
        return exchange.answer(200, models.encode_one(answer.model))

    @staticmethod
    def _page(exchange: Exchange) -> anthropic_models.Page | None:
        """Return which page a caller of Anthropic's API wants, whose errors are in its form too; None for others."""
        if not speaks_anthropic(exchange.request.headers):
            return None
        exchange.surface = errors_pb2.SURFACE_MESSAGES
        return anthropic_models.decode_page(exchange.query)
