"""What sessions ask of a database."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol

from tokendance_server.domain.audit.events import EventDraft
from tokendance_server.domain.sessions.session import KeptSession


class SessionStore(Protocol):
    """Keeps sign-ins that have begun, and sessions, each by the digest of a random secret."""

    async def add_login(self, digest: bytes, sealed: str, now: datetime, expire_time: datetime, most: int) -> bool:
        """Keep a sign-in, and forget those that are over. False: there are `most` of them already, or this one is."""

    async def take_login(self, digest: bytes, now: datetime) -> str | None:
        """Return what was kept and forget it, or None; of several who ask at once, one gets it."""

    async def add(self, session: KeptSession, event: EventDraft) -> None:
        """Keep a session, tell the trail, and forget the sessions that are over."""

    async def get(self, digest: bytes) -> KeptSession | None:
        """Return a session, whether or not it is over."""

    async def touch(self, digest: bytes, idle_expire_time: datetime) -> None:
        """Let a session last without use until then; harmless where there is none."""

    async def claim(self, session: KeptSession, until: datetime, now: datetime) -> bool:
        """Take it upon the caller to renew the tokens of this version. False: somebody else does, or did."""

    async def renew(self, session: KeptSession, sealed: str) -> bool:
        """Replace the tokens of this version. False: they are another version's, or there is no such session."""

    async def end(self, digest: bytes, event: EventDraft | None) -> bool:
        """Forget a session and tell the trail, where there was one."""
