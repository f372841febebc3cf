"""Prices as people write and read them: US dollars for a million tokens, in decimal digits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation

from google.protobuf.timestamp_pb2 import Timestamp

from tokendance.gateway.v1 import models_service_pb2
from tokendance.gateway.v1 import quota_service_pb2 as pb
from tokendance_cli.failures import USAGE, CommandError

_MICROS = 1_000_000
NOW, LATER, PAST = "now", "later", "past"


def micros_of(text: str, name: str) -> int:
    """Return dollars as whole micro-dollars. Raises CommandError for what is no amount, or finer than those."""
    try:
        amount = Decimal(text) * _MICROS
    except InvalidOperation:
        amount = Decimal(-1)
    if not amount.is_finite() or amount < 0 or amount != amount.to_integral_value():
        raise CommandError(
            f"{name} is {text!r}, which is no price.",
            "Write US dollars for a million tokens, such as 3 or 0.075; six decimals at most.",
            exit_code=USAGE,
        )
    return int(amount)


def dollars(micros: int) -> str:
    """Return micro-dollars as `micros_of` reads them."""
    return f"{(Decimal(micros) / _MICROS).normalize():f}"


def time_of(text: str) -> Timestamp | None:
    """Return when a price begins to hold: a date (0:00 UTC) or a time with its zone; None for an empty text: now.

    Raises CommandError.
    """
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as exc:
        raise CommandError(
            f"--from is {text!r}, which is no date.",
            "Write 2026-12-01, or 2026-12-01T08:00+01:00; leave it out for now.",
            exit_code=USAGE,
        ) from exc
    stamp = Timestamp()
    stamp.FromDatetime(moment if moment.tzinfo else moment.replace(tzinfo=UTC))
    return stamp


def with_prices(
    kept: pb.PriceList, prices: Mapping[str, int], *, time: Timestamp | None, tier: str, from_prompt_tokens: int
) -> pb.PriceList:
    """Return a list with new prices by class in it; one that was to begin at the same time gives way."""
    wanted = pb.PriceList()
    wanted.CopyFrom(kept)
    del wanted.prices[:]
    new = []
    for name, micros in prices.items():
        price = models_service_pb2.ModelPrice(
            micros_per_million=micros, service_tier=tier, from_prompt_tokens=from_prompt_tokens, effective_time=time
        )
        setattr(price, "class", name)
        new.append(price)
    places = {_place(one) for one in new}
    wanted.prices.extend(one for one in kept.prices if _place(one) not in places)
    wanted.prices.extend(new)
    return wanted


def _place(price: models_service_pb2.ModelPrice) -> tuple[object, ...]:
    time = price.effective_time.ToNanoseconds() if price.HasField("effective_time") else None
    return getattr(price, "class"), price.service_tier, price.from_prompt_tokens, time


def states(prices: Iterable[models_service_pb2.ModelPrice], now: datetime) -> list[str]:
    """Return for each price whether it holds now, later, or no more."""
    listed = list(prices)
    began = [one.effective_time.ToDatetime(UTC) for one in listed]
    last: dict[tuple[object, ...], datetime] = {}
    for one, time in zip(listed, began, strict=True):
        if time <= now:
            place = _place(one)[:3]
            last[place] = max(last.get(place, time), time)
    return [
        LATER if time > now else NOW if last[_place(one)[:3]] == time else PAST
        for one, time in zip(listed, began, strict=True)
    ]
