"""Sign-ins and sessions of the console in memory: for tests, and for whoever needs no database."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from tokendance_server.domain.audit.events import EventDraft
from tokendance_server.domain.sessions.session import KeptSession
from tokendance_server.stores.memory_audit import MemoryAuditStore


class MemorySessionStore:
    """Satisfies SessionStore."""

    def __init__(self, audit: MemoryAuditStore | None = None) -> None:
        self._audit = audit or MemoryAuditStore()
        self._logins: dict[bytes, tuple[str, datetime]] = {}
        self._sessions: dict[bytes, KeptSession] = {}

    async def add_login(self, digest: bytes, sealed: str, now: datetime, expire_time: datetime, most: int) -> bool:
        self._logins = {one: kept for one, kept in self._logins.items() if kept[1] > now}
        if digest in self._logins or len(self._logins) >= most:
            return False
        self._logins[digest] = (sealed, expire_time)
        return True

    async def take_login(self, digest: bytes, now: datetime) -> str | None:
        sealed, expire_time = self._logins.get(digest, ("", now))
        if not sealed:
            return None
        del self._logins[digest]
        return sealed if expire_time > now else None

    async def add(self, session: KeptSession, event: EventDraft) -> None:
        self._sessions = {one: kept for one, kept in self._sessions.items() if kept.expire_time > session.create_time}
        self._sessions[session.digest] = session
        self._audit.write(event)

    async def get(self, digest: bytes) -> KeptSession | None:
        return self._sessions.get(digest)

    async def touch(self, digest: bytes, idle_expire_time: datetime) -> None:
        if digest in self._sessions:
            self._sessions[digest] = replace(self._sessions[digest], idle_expire_time=idle_expire_time)

    async def claim(self, session: KeptSession, until: datetime, now: datetime) -> bool:
        kept = self._sessions.get(session.digest)
        if kept is None or kept.version != session.version or (kept.renew_time or now) > now:
            return False
        self._sessions[session.digest] = replace(kept, renew_time=until)
        return True

    async def renew(self, session: KeptSession, sealed: str) -> bool:
        kept = self._sessions.get(session.digest)
        if kept is None or kept.version != session.version:
            return False
        self._sessions[session.digest] = replace(kept, sealed=sealed, version=kept.version + 1, renew_time=None)
        return True

    async def end(self, digest: bytes, event: EventDraft | None) -> bool:
        if self._sessions.pop(digest, None) is None:
            return False
        self._audit.write(event)
        return True
