"""Prices as messages: from requests to the domain's, and back to what callers see."""

from __future__ import annotations

from datetime import UTC

from google.protobuf.timestamp_pb2 import Timestamp

from tokendance.gateway.v1 import models_service_pb2
from tokendance.gateway.v1 import quota_service_pb2 as pb
from tokendance_server.domain.keys.rules import invalid
from tokendance_server.domain.prices.desk import Suggestion
from tokendance_server.domain.prices.price import Price, PriceList

_UNIT = "token"


def wanted_prices(message: pb.PriceList) -> list[Price]:
    """Return the prices that a request states. Raises invalid_request for what is not priced by the token."""
    prices = []
    for index, one in enumerate(message.prices):
        if one.unit not in ("", _UNIT):
            raise invalid(f"price_list.prices[{index}].unit", "must be token: nothing else is charged by this version")
        time = one.effective_time.ToDatetime(UTC) if one.HasField("effective_time") else None
        prices.append(
            Price(getattr(one, "class"), one.micros_per_million, one.from_prompt_tokens, one.service_tier, time)
        )
    return prices


def price_message(price: Price) -> models_service_pb2.ModelPrice:
    """Return one price."""
    message = models_service_pb2.ModelPrice(
        micros_per_million=price.per_million,
        unit=_UNIT,
        from_prompt_tokens=price.from_prompt_tokens,
        service_tier=price.service_tier,
    )
    setattr(message, "class", price.price_class)
    if price.effective_time is not None:
        message.effective_time.FromDatetime(price.effective_time)
    return message


def price_list_message(listed: PriceList) -> pb.PriceList:
    """Return the list of a model."""
    time = None
    if listed.update_time is not None:
        time = Timestamp()
        time.FromDatetime(listed.update_time)
    return pb.PriceList(
        model=listed.model,
        prices=map(price_message, listed.prices),
        published=listed.published,
        update_time=time,
        etag=listed.etag,
    )


def suggestion_message(suggestion: Suggestion) -> pb.SuggestedPrices:
    """Return what a model could cost."""
    return pb.SuggestedPrices(
        model=suggestion.model, prices=map(price_message, suggestion.prices), matched_name=suggestion.matched
    )
