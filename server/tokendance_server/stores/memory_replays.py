"""Kept answers in memory: for tests, and for whoever needs no database."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime

from tokendance_server.domain.replay.store import Claim, Found


class MemoryReplayStore:
    """Satisfies ReplayStore. `secret_works` tells whether a key's secret of some time still lets callers in."""

    def __init__(self, secret_works: Callable[[str, datetime, datetime], bool] | None = None) -> None:
        self._secret_works = secret_works
        self.rows: dict[tuple[str, bytes], tuple[Claim, bytes | None]] = {}

    async def claim(self, claim: Claim, most: int) -> Found | None:
        place = (claim.organization_id, claim.scope)
        there = self.rows.get(place)
        if there is not None and there[0].expire_time > claim.create_time:
            return Found(there[0].fingerprint, there[0].request_id, there[1])
        self.rows[place] = (claim, None)
        kept = [
            one
            for one, (other, sealed) in self.rows.items()
            if sealed is not None and (other.organization_id, other.key_id) == (claim.organization_id, claim.key_id)
        ]
        kept.sort(key=lambda one: self.rows[one][0].create_time, reverse=True)
        for one in kept[most - 1 :]:
            del self.rows[one]
        return None

    async def renew(self, claims: Sequence[Claim], expire_time: datetime) -> None:
        for claim in claims:
            if self._own(claim):
                place = (claim.organization_id, claim.scope)
                self.rows[place] = (replace(claim, expire_time=expire_time), None)

    async def keep(self, claim: Claim, sealed: bytes, expire_time: datetime) -> bool:
        if not self._own(claim):
            return False
        self.rows[claim.organization_id, claim.scope] = (replace(claim, expire_time=expire_time), sealed)
        return True

    async def release(self, claim: Claim) -> None:
        if self._own(claim):
            del self.rows[claim.organization_id, claim.scope]

    async def forget_keys(self, key_ids: Sequence[str], now: datetime) -> None:
        for place, (claim, _) in list(self.rows.items()):
            if claim.key_id in key_ids and not self._works(claim, now):
                del self.rows[place]

    async def forget_organization(self, organization_id: str) -> None:
        for place, (_, sealed) in list(self.rows.items()):
            if place[0] == organization_id and sealed is not None:
                del self.rows[place]

    async def prune(self, now: datetime, limit: int) -> int:
        old = [place for place, (claim, _) in self.rows.items() if claim.expire_time <= now][:limit]
        for place in old:
            del self.rows[place]
        return len(old)

    def _works(self, claim: Claim, now: datetime) -> bool:
        return self._secret_works is not None and self._secret_works(claim.key_id, claim.secret_time, now)

    def _own(self, claim: Claim) -> bool:
        there = self.rows.get((claim.organization_id, claim.scope))
        return there is not None and there[0].token == claim.token and there[1] is None
