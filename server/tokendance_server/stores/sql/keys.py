"""Keys in SQL, each with its secrets' digests."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from itertools import groupby
from typing import Any

from sqlalchemy import ColumnElement, Row, Select, and_, bindparam, delete, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import errors_pb2
from tokendance_server.domain.audit.events import EventDraft
from tokendance_server.domain.changes import ChangeKind
from tokendance_server.domain.keys.key import (
    Key,
    KeyCursor,
    KeyFilter,
    KeyQuota,
    KeySecret,
    KeyState,
    LimitRule,
    Rotation,
    people_of,
)
from tokendance_server.domain.keys.last_use import KeyUse, Redigest
from tokendance_server.domain.keys.store import GoneTeamError, RotationMark, StoppedMemberError
from tokendance_server.domain.organizations import MemberState
from tokendance_server.stores.errors import StoreUnavailableError
from tokendance_server.stores.sql.audit import record_event
from tokendance_server.stores.sql.changes import record_change
from tokendance_server.stores.sql.database import ConflictError, Database
from tokendance_server.stores.sql.tables import key_creates, key_rotations, key_secrets, keys, members, teams


class SqlKeyStore:
    """Satisfies KeyStore."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(
        self, key: Key, request_id: str, fingerprint: bytes, event: EventDraft | None = None
    ) -> tuple[Key, bytes]:
        if request_id and (made := await self.made_by(key.organization_id, request_id)):
            return made
        try:
            async with self._database.transaction() as connection:
                await _require_working(connection, key.organization_id, people_of(key))
                await _require_team(connection, key)
                await connection.execute(keys.insert(), key_row(key))
                if key.secrets:
                    await connection.execute(key_secrets.insert(), [secret_row(key, one) for one in key.secrets])
                if request_id:
                    await connection.execute(
                        key_creates.insert(),
                        {
                            "organization_id": key.organization_id,
                            "request_id": request_id,
                            "key_id": key.id,
                            "fingerprint": fingerprint,
                        },
                    )
                if event is not None:
                    await record_event(connection, event)
                await record_change(connection, ChangeKind.KEY, key.name, key.create_time)
        except ConflictError as exc:
            # Another call with this request id was quicker.
            if request_id and (made := await self.made_by(key.organization_id, request_id)):
                return made
            raise StoreUnavailableError("the key contradicts what is kept") from exc
        return key, fingerprint

    async def made_by(self, organization_id: str, request_id: str) -> tuple[Key, bytes] | None:
        query = select(key_creates).where(
            key_creates.c.organization_id == organization_id, key_creates.c.request_id == request_id
        )
        async with self._database.read() as connection:
            row = (await connection.execute(query)).first()
        if row is None:
            return None
        made = await self.get(row.key_id)
        assert made is not None  # the schema holds the reference
        return made, row.fingerprint

    async def replace(
        self, before: Key, after: Key, mark: RotationMark | None = None, event: EventDraft | None = None
    ) -> bool:
        row = key_row(after)
        try:
            async with self._database.transaction() as connection:
                # Members before keys, as when a member is stopped: so nobody waits in a circle.
                await _require_working(connection, before.organization_id, people_of(after, before))
                if after.team_id != before.team_id:
                    await _require_team(connection, after)
                # On PostgreSQL this waits for whoever else changes the key, and then sees its version.
                found = await connection.execute(
                    keys.update()
                    .where(
                        keys.c.organization_id == before.organization_id,
                        keys.c.id == before.id,
                        keys.c.version == before.version,
                    )
                    .values({name: value for name, value in row.items() if name not in UNCHANGED})
                )
                if found.rowcount != 1:
                    return False
                if after.secrets != before.secrets:
                    await replace_secrets(connection, after)
                if mark is not None:
                    await connection.execute(
                        key_rotations.insert(), {"organization_id": before.organization_id, **asdict(mark)}
                    )
                if event is not None:
                    await record_event(connection, event)
                await record_change(connection, ChangeKind.KEY, after.name, after.update_time)
        except ConflictError as exc:
            # Another call with this request id was quicker.
            if mark is not None and await self.rotation_of(before.organization_id, mark.request_id):
                return False
            raise StoreUnavailableError("the key contradicts what is kept") from exc
        return True

    async def rotation_of(self, organization_id: str, request_id: str) -> RotationMark | None:
        query = select(key_rotations).where(
            key_rotations.c.organization_id == organization_id, key_rotations.c.request_id == request_id
        )
        async with self._database.read() as connection:
            row = (await connection.execute(query)).first()
        if row is None:
            return None
        return RotationMark(row.request_id, row.key_id, row.fingerprint, row.old_secret_expire_time)

    async def get(self, key_id: str) -> Key | None:
        return await self._read_one(_BY_ID, {"key_id": key_id})

    async def find(self, digests: Sequence[bytes]) -> Key | None:
        try:
            return await self._read_one(_BY_DIGEST, {"digests": digests})
        except StoreUnavailableError as exc:
            raise GatewayError(
                errors_pb2.ERROR_REASON_KEY_STORE_UNAVAILABLE, "Keys cannot be looked up now; try again."
            ) from exc

    async def mark_used(self, uses: Sequence[KeyUse]) -> None:
        async with self._database.transaction() as connection:
            await connection.execute(
                _MARK_USED, [{"of": use.organization_id, "key_id": use.key_id, "minute": use.time} for use in uses]
            )

    async def redigest(self, redigests: Sequence[Redigest]) -> None:
        async with self._database.transaction() as connection:
            await connection.execute(
                _REDIGEST, [{"old": one.digest, "fresh": one.fresh, "pepper": one.pepper_id} for one in redigests]
            )

    async def list(self, filter: KeyFilter, after: KeyCursor | None, limit: int) -> list[Key]:
        conditions = _conditions(filter)
        if after is not None:
            same_time = and_(keys.c.create_time == after.create_time, keys.c.id < after.id)
            conditions.append(or_(keys.c.create_time < after.create_time, same_time))
        async with self._database.read() as connection:
            rows = (await connection.execute(select_keys(and_(True, *conditions), limit))).all()
        return [read_key([*of_one_key]) for _, of_one_key in groupby(rows, key=lambda row: row.id)]

    async def _read_one(self, query: Select[Any], parameters: Mapping[str, Any]) -> Key | None:
        async with self._database.read() as connection:
            rows = (await connection.execute(query, parameters)).all()
        return read_key(rows) if rows else None


async def _require_working(connection: AsyncConnection, organization_id: str, member_ids: Collection[str]) -> None:
    """Raise StoppedMemberError for a member who is stopped; nobody stops the others before this transaction ends."""
    if not member_ids:
        return
    query = (
        select(members.c.id, members.c.state)
        .where(members.c.organization_id == organization_id, members.c.id.in_(member_ids))
        .order_by(members.c.id)
        .with_for_update(read=True)
    )
    for row in (await connection.execute(query)).all():
        if row.state not in _WORKING:
            raise StoppedMemberError(row.id)


async def _require_team(connection: AsyncConnection, key: Key) -> None:
    """Raise GoneTeamError where a key's team is gone; nobody deletes it before this transaction ends."""
    query = select(teams.c.id).where(teams.c.organization_id == key.organization_id, teams.c.id == key.team_id)
    if (await connection.execute(query.with_for_update(read=True, key_share=True))).first() is None:
        raise GoneTeamError(key.team_id)


async def replace_secrets(connection: AsyncConnection, key: Key) -> None:
    """Put the secrets of a key in place of those that it had."""
    owned = and_(key_secrets.c.organization_id == key.organization_id, key_secrets.c.key_id == key.id)
    await connection.execute(delete(key_secrets).where(owned))
    if key.secrets:
        await connection.execute(key_secrets.insert(), [secret_row(key, one) for one in key.secrets])


def select_keys(wanted: ColumnElement[bool], limit: int) -> Select[Any]:
    """Return the statement that reads keys, newest first, with one row for each secret, or one without any."""
    page = select(keys).where(wanted).order_by(keys.c.create_time.desc(), keys.c.id.desc()).limit(limit).subquery()
    # A join, because SQLite reads the whole table for a list of pairs.
    owned = and_(key_secrets.c.organization_id == page.c.organization_id, key_secrets.c.key_id == page.c.id)
    return (
        select(
            page,
            key_secrets.c.digest,
            key_secrets.c.pepper_id,
            key_secrets.c.create_time.label("secret_create_time"),
            key_secrets.c.expire_time.label("secret_expire_time"),
        )
        .join_from(page, key_secrets, owned, isouter=True)
        .order_by(
            page.c.create_time.desc(),
            page.c.id.desc(),
            key_secrets.c.create_time.desc(),
            # Of two secrets of one moment, the current one has no end.
            key_secrets.c.expire_time.is_not(None),
            key_secrets.c.expire_time.desc(),
        )
    )


_WORKING = frozenset({MemberState.INVITED.value, MemberState.ACTIVE.value})
UNCHANGED = frozenset({"organization_id", "id", "create_time", "last_used_time"})
"""The columns that never change, or change without a new version."""

_MARK_USED = (
    keys.update()
    .where(
        keys.c.organization_id == bindparam("of"),
        keys.c.id == bindparam("key_id"),
        or_(keys.c.last_used_time.is_(None), keys.c.last_used_time < bindparam("minute")),
    )
    .values(last_used_time=bindparam("minute"))
)

_REDIGEST = (
    key_secrets.update()
    .where(key_secrets.c.digest == bindparam("old"))
    .values(digest=bindparam("fresh"), pepper_id=bindparam("pepper"))
)

# Built once: building a statement of this size costs more than running it.
_BY_ID = select_keys(keys.c.id == bindparam("key_id"), 1)
_BY_DIGEST = select_keys(
    keys.c.id
    == select(key_secrets.c.key_id)
    .where(key_secrets.c.digest.in_(bindparam("digests", expanding=True)))
    .limit(1)
    .scalar_subquery(),
    1,
)


def _conditions(filter: KeyFilter) -> list[ColumnElement[bool]]:
    """Say in SQL what KeyFilter.matches says."""
    expired = and_(keys.c.expire_time.is_not(None), keys.c.expire_time <= filter.now)
    alive = or_(keys.c.expire_time.is_(None), keys.c.expire_time > filter.now)
    conditions: list[ColumnElement[bool]] = []
    if filter.organization_id:
        conditions.append(keys.c.organization_id == filter.organization_id)
    if filter.team_id:
        conditions.append(keys.c.team_id == filter.team_id)
    if filter.owner_id:
        conditions.append(keys.c.owner_id == filter.owner_id)
    if filter.state is KeyState.EXPIRED:
        conditions += [keys.c.state != KeyState.REVOKED.value, expired]
    elif filter.state is KeyState.REVOKED:
        conditions.append(keys.c.state == KeyState.REVOKED.value)
    elif filter.state is not None:
        conditions += [keys.c.state == filter.state.value, alive]
    if filter.seen_by:
        own = [keys.c.owner_id == filter.seen_by, keys.c.rotation_responsible_id == filter.seen_by]
        conditions.append(or_(*own, keys.c.team_id.in_(filter.seen_teams)))
    if filter.rotation_overdue:
        conditions += [keys.c.rotation_due_time <= filter.now, keys.c.state != KeyState.REVOKED.value, alive]
    return conditions


def key_row(key: Key) -> dict[str, Any]:
    """Return the row of a key, without its secrets."""
    return {
        "organization_id": key.organization_id,
        "id": key.id,
        "purpose": key.purpose,
        "owner_id": key.owner_id,
        "team_id": key.team_id,
        "quota_inherited_from": key.quota.inherited_from,
        "quota_limits": [
            {"metric": rule.metric, "window": rule.window, "limit": rule.limit, "soft": rule.soft, "model": rule.model}
            for rule in key.quota.limits
        ],
        "rotation_period_s": key.rotation.period_s,
        "rotation_responsible_id": key.rotation.responsible_id,
        "rotation_due_time": key.rotation.due_time,
        "state": key.state.value,
        "secret_prefix": key.secret_prefix,
        "secret_suffix": key.secret_suffix,
        "expire_time": key.expire_time,
        "allowed_models": list(key.allowed_models),
        "allowed_networks": list(key.allowed_networks),
        "labels": dict(key.labels),
        "excluded_route_tags": list(key.excluded_route_tags),
        "create_time": key.create_time,
        "update_time": key.update_time,
        "rotate_time": key.rotate_time,
        "last_used_time": key.last_used_time,
        "revoke_time": key.revoke_time,
        "version": key.version,
    }


def secret_row(key: Key, secret: KeySecret) -> dict[str, Any]:
    """Return the row of a secret."""
    return {
        "organization_id": key.organization_id,
        "key_id": key.id,
        "digest": secret.digest,
        "pepper_id": secret.pepper_id,
        "create_time": secret.create_time,
        "expire_time": secret.expire_time,
    }


def read_key(rows: Sequence[Row[Any]]) -> Key:
    """Return the key of rows that differ in their secret only."""
    row = rows[0]
    return Key(
        organization_id=row.organization_id,
        id=row.id,
        purpose=row.purpose,
        owner_id=row.owner_id,
        team_id=row.team_id,
        quota=KeyQuota(row.quota_inherited_from, tuple(LimitRule(**rule) for rule in row.quota_limits)),
        rotation=Rotation(row.rotation_period_s, row.rotation_responsible_id, row.rotation_due_time),
        create_time=row.create_time,
        update_time=row.update_time,
        state=KeyState(row.state),
        secrets=tuple(
            KeySecret(one.digest, one.pepper_id, one.secret_create_time, one.secret_expire_time)
            for one in rows
            if one.digest is not None
        ),
        secret_prefix=row.secret_prefix,
        secret_suffix=row.secret_suffix,
        expire_time=row.expire_time,
        allowed_models=tuple(row.allowed_models),
        allowed_networks=tuple(row.allowed_networks),
        labels=row.labels,
        excluded_route_tags=tuple(row.excluded_route_tags),
        rotate_time=row.rotate_time,
        last_used_time=row.last_used_time,
        revoke_time=row.revoke_time,
        version=row.version,
    )
