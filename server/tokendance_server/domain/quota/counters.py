"""What the rules of quotas ask of whatever counts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from tokendance_server.domain.quota.claims import Claim, Grant, Refusal, Row, Standing, Used


class CountersUnavailableError(Exception):
    """Nobody can tell now what the limits are or how they stand; nothing was held and nothing was charged."""


class SpentSource(Protocol):
    """Tells what was spent before a counter was there."""

    async def spent(self, rows: Sequence[tuple[Row, float | None]]) -> Sequence[int]:
        """Return what was spent of each row since a time (seconds since 1970; None: ever), in the order given.

        Raises CountersUnavailableError.
        """

    async def tell(self) -> None:
        """Let other nodes know of what was spent on this one so far. Raises CountersUnavailableError."""


class KeptHolds(Protocol):
    """Tells what is held for longer than the process that took it: such claims name their lease."""

    async def held(self, organization: str) -> Sequence[tuple[Grant, float]]:
        """Return the grants of an organization, a resource name, and for how many seconds each lasts yet.

        Raises CountersUnavailableError.
        """


class Counters(Protocol):
    """Counts what is spent and held. Each method is one step: whole or not at all, whoever else counts.

    Every method raises CountersUnavailableError where it cannot be done now.
    """

    async def reserve(self, claim: Claim, lease_s: float) -> Grant | Refusal:
        """Hold what a claim asks of every limit, or tell which one refuses it; soft ones never do."""

    async def extend(self, grant: Grant, output_tokens: int) -> bool:
        """Hold so many tokens of an answer in all; False, with nothing changed, where a limit has no room for them."""

    async def settle(self, grant: Grant, used: Used) -> None:
        """Charge what a call used and free what it held. A repeat changes nothing; it may come after the lease."""

    async def release(self, grant: Grant) -> None:
        """Free what a call held, and charge nothing. A repeat changes nothing."""

    async def renew(self, grants: Sequence[Grant], lease_s: float) -> None:
        """Let grants last for another lease."""

    async def standings(self, organization: str, rows: Sequence[Row]) -> list[Standing]:
        """Return how limits of one organization stand."""

    async def close(self) -> None:
        """Let go of what it counts with."""
