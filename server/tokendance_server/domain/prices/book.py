"""The prices in force on a node, in memory: read again whenever they are changed anywhere."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

from tokendance_server.domain.clock import Clock
from tokendance_server.domain.prices.price import Price, PriceList
from tokendance_server.domain.prices.tariff import Tariff


class PriceBook:
    """Tells the tariff of a model at this moment; `put` replaces all lists at once."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lists: Mapping[str, PriceList] = {}
        self._tariffs: dict[str, tuple[float, Tariff | None]] = {}

    def put(self, lists: Mapping[str, PriceList]) -> None:
        """Let these lists hold, by model."""
        self._lists = dict(lists)
        self._tariffs.clear()

    def list_of(self, model: str) -> PriceList:
        """Return the list of a model, empty where it has none."""
        return self._lists.get(model) or PriceList(model)

    def published(self, model: str) -> Sequence[Price]:
        """Return the prices that hold now and that callers of a model may see, by class; none where it is kept back."""
        listed = self._lists.get(model)
        return listed.in_force(self._clock.now()) if listed is not None and listed.published else ()

    def tariff(self, model: str) -> Tariff | None:
        """Return what holds now for a model, by its public id; None: it has no price."""
        known = self._tariffs.get(model)
        monotonic = self._clock.monotonic()
        if known is not None and monotonic < known[0]:
            return known[1]
        listed = self._lists.get(model)
        if listed is None:
            return None
        now = self._clock.now()
        tariff = listed.tariff(now)
        self._tariffs[model] = (monotonic + _seconds_until(listed.next_change(now), now), tariff)
        return tariff


# The wall clock may be set meanwhile, so nothing is believed for longer.
_BELIEVED_S = 60.0


def _seconds_until(change: datetime | None, now: datetime) -> float:
    return _BELIEVED_S if change is None else min((change - now).total_seconds(), _BELIEVED_S)


TariffOf = Callable[[str], Tariff | None]
"""Returns the tariff of a model by its public id."""
