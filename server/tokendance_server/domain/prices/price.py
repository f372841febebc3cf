"""Prices as administrators write them: rows of a list per model, each from a time on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from tokendance_server.domain.prices.tariff import Step, Tariff


@dataclass(frozen=True, slots=True)
class Price:
    """Micro-USD for a million tokens of a class, from a time on.

    `price_class` is one of tariff.CLASSES; `service_tier` is empty for the default; `effective_time` None: always.
    """

    price_class: str
    per_million: int
    from_prompt_tokens: int = 0
    service_tier: str = ""
    effective_time: datetime | None = None

    @property
    def place(self) -> tuple[str, int, str]:
        """What only one price can hold for at a time."""
        return self.price_class, self.from_prompt_tokens, self.service_tier


@dataclass(frozen=True, slots=True)
class PriceList:
    """The prices of one model, of the past and the future too. `version` counts from 1; 0: never written."""

    model: str
    prices: tuple[Price, ...] = ()
    published: bool = False
    update_time: datetime | None = None
    version: int = 0

    @property
    def etag(self) -> str:
        """The version as callers see it."""
        return f'"{self.version}"' if self.version else ""

    def in_force(self, now: datetime) -> list[Price]:
        """Return the prices that hold at a time: of each place, the one that began last."""
        found: dict[tuple[str, int, str], Price] = {}
        for price in sorted(self.prices, key=_began):
            if price.effective_time is None or price.effective_time <= now:
                found[price.place] = price
        return list(found.values())

    def tariff(self, now: datetime) -> Tariff | None:
        """Return what holds at a time, None where nothing does."""
        tiers: dict[str, dict[str, list[Step]]] = {}
        for price in self.in_force(now):
            classes = tiers.setdefault(price.service_tier, {})
            classes.setdefault(price.price_class, []).append(Step(price.per_million, price.from_prompt_tokens))
        return Tariff(tiers) if tiers else None

    def next_change(self, now: datetime) -> datetime | None:
        """Return when prices that are written already begin to hold, after a time; None where none do."""
        times = [one.effective_time for one in self.prices if one.effective_time and one.effective_time > now]
        return min(times, default=None)


def _began(price: Price) -> float:
    return price.effective_time.timestamp() if price.effective_time else float("-inf")


def changed_places(before: Sequence[Price], after: Sequence[Price]) -> set[Price]:
    """Return the prices that are in one list and not in the other."""
    return set(before) ^ set(after)
