"""Prices to suggest: the list that is bundled with genai-prices, read when it is first asked and never fetched."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from decimal import ROUND_HALF_UP, Decimal
from typing import TYPE_CHECKING, Any

from tokendance_server.domain.prices.price import Price
from tokendance_server.domain.prices.tariff import (
    AUDIO_INPUT,
    AUDIO_OUTPUT,
    CACHE_WRITE,
    CACHED_INPUT,
    IMAGE,
    INPUT,
    OUTPUT,
    REASONING,
)

if TYPE_CHECKING:
    from genai_prices.data_snapshot import DataSnapshot

_CLASSES = {
    "input_mtok": INPUT,
    "cache_read_mtok": CACHED_INPUT,
    "cache_write_mtok": CACHE_WRITE,
    "output_mtok": OUTPUT,
    "output_reasoning_mtok": REASONING,
    "input_audio_mtok": AUDIO_INPUT,
    "output_audio_mtok": AUDIO_OUTPUT,
    "input_image_mtok": IMAGE,
}
_MICROS = 1_000_000


class BundledPrices:
    """Satisfies Suggests."""

    def find(self, names: Sequence[str], now: datetime) -> tuple[str, tuple[Price, ...]] | None:
        """Return the name in the list, and the prices, of the first of the names that is in it."""
        snapshot = _snapshot()
        for name in names:
            # Some routers name a model `provider/model`; some names, such as those of embeddings, do not tell whose
            # they are.
            provider, _, rest = name.partition("/")
            for model, by in ((name, None), (rest, provider), (name, "openai")):
                if not model:
                    continue
                try:
                    found, info = snapshot.find_provider_model(model, None, by, None)
                except LookupError:
                    continue
                return f"{found.id}/{info.id}", _prices(info.get_prices(now))
        return None


def _snapshot() -> DataSnapshot:
    # Only where it is asked: nobody else needs its thousands of objects in memory.
    from genai_prices.data_snapshot import get_snapshot

    return get_snapshot()


def _prices(listed: Any) -> tuple[Price, ...]:
    found = []
    for field, name in _CLASSES.items():
        value = getattr(listed, field)
        if value is None:
            continue
        if isinstance(value, Decimal):
            found.append(Price(name, _micros(value)))
            continue
        found.append(Price(name, _micros(value.base)))
        # There a step begins behind its number of tokens, here with it.
        found += [Price(name, _micros(step.price), from_prompt_tokens=step.start + 1) for step in value.tiers]
    return tuple(found)


def _micros(usd: Decimal) -> int:
    return int((usd * _MICROS).to_integral_value(ROUND_HALF_UP))
