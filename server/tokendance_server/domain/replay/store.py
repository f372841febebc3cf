"""Where claims and kept answers are: the face of the stores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to make the answer of one scope, until `expire_time` unless it is renewed.

    `token` is minted here: a claim that ran out and was taken by somebody else can keep nothing any more.
    `request_id` is the one that the caller saw; `secret_time` tells which secret of the key the call came with.
    """

    organization_id: str
    scope: bytes
    fingerprint: bytes
    token: str
    key_id: str
    secret_time: datetime
    request_id: str
    create_time: datetime
    expire_time: datetime


@dataclass(frozen=True, slots=True)
class Found:
    """What is there already: the claim of somebody else, or with `sealed` the answer that was kept."""

    fingerprint: bytes
    request_id: str
    sealed: bytes | None = field(default=None, repr=False)


class ReplaysUnavailableError(Exception):
    """The store cannot be reached now. The message is for operators."""


class ReplayStore(Protocol):
    """Keeps them. Each method is one transaction; what expired counts as not there.

    Every method raises ReplaysUnavailableError.
    """

    async def claim(self, claim: Claim, most: int) -> Found | None:
        """Take the scope, or return what is there. Of a key at most `most` answers stay; the oldest go."""

    async def renew(self, claims: Sequence[Claim], expire_time: datetime) -> None:
        """Hold claims for longer."""

    async def keep(self, claim: Claim, sealed: bytes, expire_time: datetime) -> bool:
        """Put the answer where the claim is; returns False where the claim is gone."""

    async def release(self, claim: Claim) -> None:
        """Give a claim up; harmless where it is gone."""

    async def forget_keys(self, key_ids: Sequence[str], now: datetime) -> None:
        """Remove what belongs to a secret that works no more: revoked with its key, or rotated out."""

    async def forget_organization(self, organization_id: str) -> None:
        """Remove every answer that is kept for an organization; claims stay until their calls end."""

    async def prune(self, now: datetime, limit: int) -> int:
        """Remove at most `limit` of what expired; returns how many."""
