"""The part of the Quota servicer that sets, lists and suggests prices: decode, one call of the domain, encode."""

from __future__ import annotations

from typing import Any

import grpc.aio

from tokendance.gateway.v1 import quota_service_pb2 as pb
from tokendance_server.domain.prices.desk import Prices
from tokendance_server.services.call import call_of
from tokendance_server.services.origins import origin_of
from tokendance_server.services.price_messages import price_list_message, suggestion_message, wanted_prices

Context = grpc.aio.ServicerContext[Any, Any]


class PricesService:
    """Serves ListPrices, SetPrices and SuggestPrices."""

    def __init__(self, prices: Prices) -> None:
        self._prices = prices

    async def ListPrices(self, request: pb.ListPricesRequest, context: Context) -> pb.ListPricesResponse:
        """Return a page of price lists."""
        lists, token = await self._prices.list(
            page_size=request.page_size,
            page_token=request.page_token,
            model=request.model,
            unpriced_only=request.unpriced_only,
        )
        return pb.ListPricesResponse(price_lists=map(price_list_message, lists), next_page_token=token)

    async def SetPrices(self, request: pb.SetPricesRequest, context: Context) -> pb.SetPricesResponse:
        """Put prices of a model in place."""
        call, wanted = call_of(context), request.price_list
        listed = await self._prices.set(
            call.identity,
            wanted.model,
            wanted_prices(wanted),
            published=wanted.published,
            etag=wanted.etag,
            validate_only=request.validate_only,
            origin=origin_of(call),
        )
        return pb.SetPricesResponse(price_list=price_list_message(listed))

    async def SuggestPrices(self, request: pb.SuggestPricesRequest, context: Context) -> pb.SuggestPricesResponse:
        """Return what models could cost."""
        suggestions, unknown = await self._prices.suggest(request.models)
        return pb.SuggestPricesResponse(suggestions=map(suggestion_message, suggestions), unknown_models=unknown)
