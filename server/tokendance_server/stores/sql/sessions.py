"""Sign-ins and sessions of the console in SQL."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Row, delete, func, or_, select, update

from tokendance_server.domain.audit.events import EventDraft
from tokendance_server.domain.sessions.session import KeptSession
from tokendance_server.stores.sql.audit import record_events
from tokendance_server.stores.sql.database import ConflictError, Database
from tokendance_server.stores.sql.session_tables import console_logins, console_sessions


class SqlSessionStore:
    """Satisfies SessionStore."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add_login(self, digest: bytes, sealed: str, now: datetime, expire_time: datetime, most: int) -> bool:
        row = {"digest": digest, "sealed": sealed, "expire_time": expire_time}
        try:
            async with self._database.transaction() as connection:
                await connection.execute(delete(console_logins).where(console_logins.c.expire_time <= now))
                count = (await connection.execute(select(func.count()).select_from(console_logins))).scalar_one()
                if count >= most:
                    return False
                await connection.execute(console_logins.insert(), row)
        except ConflictError:
            return False
        return True

    async def take_login(self, digest: bytes, now: datetime) -> str | None:
        mine = (console_logins.c.digest == digest, console_logins.c.sealed != "")
        async with self._database.transaction() as connection:
            done = await connection.execute(
                delete(console_logins).where(*mine).returning(console_logins.c.sealed, console_logins.c.expire_time)
            )
            row = done.first()
        return None if row is None or row.expire_time <= now else row.sealed

    async def add(self, session: KeptSession, event: EventDraft) -> None:
        async with self._database.transaction() as connection:
            over = console_sessions.c.expire_time <= session.create_time
            await connection.execute(delete(console_sessions).where(over))
            await connection.execute(console_sessions.insert(), _row(session))
            await record_events(connection, [event])

    async def get(self, digest: bytes) -> KeptSession | None:
        query = select(console_sessions).where(console_sessions.c.digest == digest)
        async with self._database.read() as connection:
            row = (await connection.execute(query)).first()
        return None if row is None else _session(row)

    async def touch(self, digest: bytes, idle_expire_time: datetime) -> None:
        mine = console_sessions.c.digest == digest
        async with self._database.transaction() as connection:
            await connection.execute(update(console_sessions).where(mine).values(idle_expire_time=idle_expire_time))

    async def claim(self, session: KeptSession, until: datetime, now: datetime) -> bool:
        free = or_(console_sessions.c.renew_time.is_(None), console_sessions.c.renew_time <= now)
        mine = (console_sessions.c.digest == session.digest, console_sessions.c.version == session.version, free)
        async with self._database.transaction() as connection:
            done = await connection.execute(update(console_sessions).where(*mine).values(renew_time=until))
        return bool(done.rowcount)

    async def renew(self, session: KeptSession, sealed: str) -> bool:
        mine = (console_sessions.c.digest == session.digest, console_sessions.c.version == session.version)
        values = {"sealed": sealed, "version": session.version + 1, "renew_time": None}
        async with self._database.transaction() as connection:
            done = await connection.execute(update(console_sessions).where(*mine).values(values))
        return bool(done.rowcount)

    async def end(self, digest: bytes, event: EventDraft | None) -> bool:
        async with self._database.transaction() as connection:
            done = await connection.execute(delete(console_sessions).where(console_sessions.c.digest == digest))
            if done.rowcount and event is not None:
                await record_events(connection, [event])
        return bool(done.rowcount)


def _row(session: KeptSession) -> dict[str, Any]:
    return {
        "digest": session.digest,
        "id": session.id,
        "person": session.person,
        "organization_id": session.organization_id,
        "sealed": session.sealed,
        "create_time": session.create_time,
        "sign_in_time": session.sign_in_time,
        "idle_expire_time": session.idle_expire_time,
        "expire_time": session.expire_time,
        "version": session.version,
        "renew_time": session.renew_time,
    }


def _session(row: Row[Any]) -> KeptSession:
    return KeptSession(
        digest=row.digest,
        id=row.id,
        person=row.person,
        organization_id=row.organization_id,
        sealed=row.sealed,
        create_time=row.create_time,
        sign_in_time=row.sign_in_time,
        idle_expire_time=row.idle_expire_time,
        expire_time=row.expire_time,
        version=row.version,
        renew_time=row.renew_time,
    )
