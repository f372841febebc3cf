"""What prices ask of a store: one list for each model that ever had a price."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from tokendance_server.domain.audit.events import EventDraft
from tokendance_server.domain.prices.price import PriceList


class PriceStore(Protocol):
    """Keeps price lists."""

    async def load(self) -> Mapping[str, PriceList]:
        """Return every list by model."""

    async def put(self, before: PriceList, after: PriceList, event: EventDraft) -> bool:
        """Put a list in the place of another version, with the event and the change that tell of it, in one step.

        Returns False, and changes nothing, where that version is not the one that is kept.
        """
