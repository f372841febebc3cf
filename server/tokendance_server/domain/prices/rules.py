"""What a price list may hold, and what of it nobody changes any more: prices that calls were charged by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import errors_pb2
from tokendance_server.domain.keys.rules import invalid
from tokendance_server.domain.prices.price import Price, PriceList
from tokendance_server.domain.prices.tariff import CLASSES
from tokendance_server.domain.usage.counts import MOST_TOKENS

MOST_PRICES = 100
MOST_PER_MILLION = 1_000_000_000_000
"""A US dollar a token: whoever writes more than that has mistaken the unit."""
LONGEST_TIER = 63
KEPT_AFTER_END = timedelta(days=400)
"""How long a price that no longer holds must stay in its list; the audit trail has it for longer."""


def checked(before: PriceList, prices: Sequence[Price], now: datetime) -> tuple[Price, ...]:
    """Return the prices as they are to be kept: new ones without a time hold from now on.

    Raises invalid_request with the field at fault, and failed_precondition where a price of the past would change.
    """
    if len(prices) > MOST_PRICES:
        raise invalid("price_list.prices", f"must be at most {MOST_PRICES}")
    known = set(before.prices)
    kept: list[Price] = []
    seen: set[tuple[object, ...]] = set()
    for index, wanted in enumerate(prices):
        field = f"price_list.prices[{index}]"
        _check(wanted, field)
        price = wanted
        if price not in known:
            if wanted.effective_time is not None and wanted.effective_time < now:
                raise _past(
                    "Prices hold from now on, or from a later time: give no effective_time, or one to come.",
                    f"{field}.effective_time",
                )
            price = replace(wanted, effective_time=wanted.effective_time or now)
        place = (*price.place, price.effective_time)
        if place in seen:
            raise invalid(field, "repeats another in class, from_prompt_tokens, service_tier and effective_time")
        seen.add(place)
        kept.append(price)
    _keep_past(before, kept, now)
    return tuple(sorted(kept, key=_order))


def _check(price: Price, field: str) -> None:
    if price.price_class not in CLASSES:
        raise invalid(f"{field}.class", f"must be one of {', '.join(CLASSES)}")
    if not 0 <= price.per_million <= MOST_PER_MILLION:
        raise invalid(f"{field}.micros_per_million", f"must be 0 to {MOST_PER_MILLION}")
    if not 0 <= price.from_prompt_tokens <= MOST_TOKENS:
        raise invalid(f"{field}.from_prompt_tokens", f"must be 0 to {MOST_TOKENS}")
    if len(price.service_tier) > LONGEST_TIER:
        raise invalid(f"{field}.service_tier", f"must have at most {LONGEST_TIER} characters")


def _keep_past(before: PriceList, prices: Sequence[Price], now: datetime) -> None:
    wanted = set(prices)
    for price in before.prices:
        if price in wanted or (price.effective_time is not None and price.effective_time > now):
            continue
        ended = _ended(before, price)
        if ended is None or ended > now - KEPT_AFTER_END:
            raise _past(
                f"The price of {price.price_class} that holds since "
                f"{price.effective_time.isoformat() if price.effective_time else 'the start'} stays as it was; "
                "add one that takes its place from a time on.",
                "price_list.prices",
            )


def _ended(listed: PriceList, price: Price) -> datetime | None:
    """Return when another price took this one's place, None where none did or will."""
    began = price.effective_time
    later = [
        one.effective_time
        for one in listed.prices
        if one.place == price.place and one.effective_time and (began is None or one.effective_time > began)
    ]
    return min(later, default=None)


def _order(price: Price) -> tuple[object, ...]:
    began = price.effective_time.timestamp() if price.effective_time else float("-inf")
    return CLASSES.index(price.price_class), price.service_tier, price.from_prompt_tokens, began


def _past(message: str, param: str) -> GatewayError:
    return GatewayError(errors_pb2.ERROR_REASON_FAILED_PRECONDITION, message, param=param, origin="caller")
