"""Kept answers in SQL: one row for each scope, first the claim of whoever makes the answer, then the answer."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from datetime import datetime
from typing import Any

from sqlalchemy import and_, bindparam, delete, exists, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from tokendance_server.domain.keys.key import KeyState
from tokendance_server.domain.replay.store import Claim, Found, ReplaysUnavailableError
from tokendance_server.stores.errors import StoreUnavailableError
from tokendance_server.stores.sql.database import ConflictError, Database
from tokendance_server.stores.sql.tables import key_secrets, keys, replays


class SqlReplayStore:
    """Satisfies ReplayStore."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def claim(self, claim: Claim, most: int) -> Found | None:
        found = await self._find(claim)
        if found is not None:
            return found
        try:
            async with self._transaction() as connection:
                # What ran out is in the way of the new row, and of nobody else.
                await connection.execute(
                    delete(replays).where(_scope(claim), replays.c.expire_time <= claim.create_time)
                )
                await connection.execute(replays.insert(), _row(claim))
                await self._bound(connection, claim, most)
        except ConflictError:
            # Another call was first. Where its claim is gone again by now, the caller asks once more.
            return await self._find(claim) or Found(claim.fingerprint, "")
        return None

    async def renew(self, claims: Sequence[Claim], expire_time: datetime) -> None:
        async with self._transaction() as connection:
            for claim in claims:
                await connection.execute(update(replays).where(_own(claim)).values(expire_time=expire_time))

    async def keep(self, claim: Claim, sealed: bytes, expire_time: datetime) -> bool:
        async with self._transaction() as connection:
            ends = (await connection.execute(_END_OF_SECRET, _secret(claim))).scalar()
            until = expire_time if ends is None else min(expire_time, ends)
            kept = await connection.execute(update(replays).where(_own(claim)).values(sealed=sealed, expire_time=until))
        return bool(kept.rowcount)

    async def release(self, claim: Claim) -> None:
        async with self._transaction() as connection:
            await connection.execute(delete(replays).where(_own(claim)))

    async def forget_keys(self, key_ids: Sequence[str], now: datetime) -> None:
        works = exists(
            select(key_secrets.c.key_id)
            .join(
                keys,
                and_(keys.c.organization_id == key_secrets.c.organization_id, keys.c.id == key_secrets.c.key_id),
            )
            .where(
                _SAME_SECRET,
                or_(key_secrets.c.expire_time.is_(None), key_secrets.c.expire_time > now),
                keys.c.state != KeyState.REVOKED.value,
            )
        )
        async with self._transaction() as connection:
            await connection.execute(delete(replays).where(replays.c.key_id.in_(key_ids), ~works))
            # What a secret in its overlap made goes with it.
            ends = select(key_secrets.c.expire_time).where(_SAME_SECRET).scalar_subquery()
            await connection.execute(
                update(replays)
                .where(
                    replays.c.key_id.in_(key_ids),
                    replays.c.sealed.is_not(None),
                    exists(select(key_secrets.c.key_id).where(_SAME_SECRET, key_secrets.c.expire_time.is_not(None))),
                    replays.c.expire_time > ends,
                )
                .values(expire_time=ends)
            )

    async def forget_organization(self, organization_id: str) -> None:
        async with self._transaction() as connection:
            await connection.execute(
                delete(replays).where(replays.c.organization_id == organization_id, replays.c.sealed.is_not(None))
            )

    async def prune(self, now: datetime, limit: int) -> int:
        old = (
            select(replays.c.organization_id, replays.c.scope)
            .where(replays.c.expire_time <= now)
            .order_by(replays.c.expire_time)
            .limit(limit)
        )
        async with self._transaction() as connection:
            rows = (await connection.execute(old)).all()
            for row in rows:
                mine = and_(replays.c.organization_id == row.organization_id, replays.c.scope == row.scope)
                await connection.execute(delete(replays).where(mine, replays.c.expire_time <= now))
        return len(rows)

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[AsyncConnection]:
        with _typed_errors():
            async with self._database.transaction() as connection:
                yield connection

    async def _find(self, claim: Claim) -> Found | None:
        query = select(replays.c.fingerprint, replays.c.request_id, replays.c.sealed).where(
            _scope(claim), replays.c.expire_time > claim.create_time
        )
        with _typed_errors():
            async with self._database.read() as connection:
                row = (await connection.execute(query)).first()
        return None if row is None else Found(row.fingerprint, row.request_id, row.sealed)

    @staticmethod
    async def _bound(connection: AsyncConnection, claim: Claim, most: int) -> None:
        """Remove the oldest answers of a key beyond `most`; claims of running calls are bounded by these."""
        beyond = (
            select(replays.c.scope)
            .where(
                replays.c.organization_id == claim.organization_id,
                replays.c.key_id == claim.key_id,
                replays.c.sealed.is_not(None),
            )
            .order_by(replays.c.create_time.desc())
            .offset(most - 1)
            .limit(_FEW)
        )
        scopes = (await connection.execute(beyond)).scalars().all()
        if scopes:
            await connection.execute(
                delete(replays).where(replays.c.organization_id == claim.organization_id, replays.c.scope.in_(scopes))
            )


_FEW = 10
_SAME_SECRET = and_(
    key_secrets.c.organization_id == replays.c.organization_id,
    key_secrets.c.key_id == replays.c.key_id,
    key_secrets.c.create_time == replays.c.secret_time,
)
_END_OF_SECRET = select(key_secrets.c.expire_time).where(
    key_secrets.c.organization_id == bindparam("organization_id"),
    key_secrets.c.key_id == bindparam("key_id"),
    key_secrets.c.create_time == bindparam("secret_time"),
)


def _secret(claim: Claim) -> dict[str, Any]:
    return {"organization_id": claim.organization_id, "key_id": claim.key_id, "secret_time": claim.secret_time}


@contextmanager
def _typed_errors() -> Iterator[None]:
    try:
        yield
    except StoreUnavailableError as exc:
        raise ReplaysUnavailableError(str(exc)) from exc


def _scope(claim: Claim) -> Any:
    return and_(replays.c.organization_id == claim.organization_id, replays.c.scope == claim.scope)


def _own(claim: Claim) -> Any:
    return and_(_scope(claim), replays.c.token == claim.token, replays.c.sealed.is_(None))


def _row(claim: Claim) -> dict[str, Any]:
    return {
        "organization_id": claim.organization_id,
        "scope": claim.scope,
        "fingerprint": claim.fingerprint,
        "token": claim.token,
        "key_id": claim.key_id,
        "secret_time": claim.secret_time,
        "request_id": claim.request_id,
        "create_time": claim.create_time,
        "expire_time": claim.expire_time,
        "sealed": None,
    }
