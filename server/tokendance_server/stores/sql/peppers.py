"""Which secrets a database was filled under, so that a node with others is refused instead of every key."""

from __future__ import annotations

import hmac
from collections import Counter
from collections.abc import Mapping
from datetime import datetime

from sqlalchemy import ColumnElement, Table, func, inspect, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from tokendance_server.domain.catalogue.entries import read_provider
from tokendance_server.domain.keys.key import KeyState
from tokendance_server.domain.sealing import sealed_under
from tokendance_server.startup import StartupError
from tokendance_server.stores.sql.database import Database
from tokendance_server.stores.sql.tables import key_secrets, keys, peppers, providers, ring_keys
from tokendance_server.stores.sql.webhook_tables import webhooks


async def check_peppers(database: Database, checks: Mapping[str, bytes], now: datetime) -> None:
    """Compare the peppers of this node with those of the database, and write down the ones that are new there.

    `checks` maps the ids of a ring to the digests of one constant under each. A database that knows none takes them.
    Raises StartupError where an id stands for another pepper, where the node has none that the database knows, and
    where secrets that work were made under one that it has not.
    """
    async with database.transaction() as connection:
        await database.lock(connection, "peppers")
        written = await compare_peppers(connection, database.place, checks, now)
        await _write_down(connection, peppers, {one: checks[one] for one in checks.keys() - written}, now)


async def compare_peppers(
    connection: AsyncConnection, place: str, checks: Mapping[str, bytes], now: datetime
) -> set[str]:
    """Compare as `check_peppers`, write nothing, and return the ids that the database knows. Raises StartupError."""
    known = await _known(connection, peppers)
    written = set(known)
    if not known:
        # Keys that are older than this table say by themselves what they were made under.
        used = (await connection.execute(select(key_secrets.c.pepper_id).distinct())).scalars()
        known = {pepper_id: checks.get(pepper_id, b"") for pepper_id in used}
    if known and not _agree(known, checks):
        raise StartupError(
            f"The pepper of this node is not the one under which the keys in {place} were made, and none "
            "of them would work; give every node the same one with server.pepper, or restore it from a backup."
        )
    for pepper_id, count in (await peppers_in_use(connection, now)).items():
        if pepper_id not in checks:
            raise StartupError(
                f"{count} secrets in {place} were made under the pepper {pepper_id}, which this node has "
                "not, and would not work; name it in server.old_peppers until `tokendance secrets status` shows "
                "that none is left."
            )
    return written


async def check_ring(database: Database, checks: Mapping[str, bytes], now: datetime) -> None:
    """Compare the keys that seal with those of the database as `check_peppers` does, and write down the new ones.

    Raises StartupError where an id stands for another key, and where something is sealed under one that the node has
    not.
    """
    async with database.transaction() as connection:
        await database.lock(connection, "ring")
        written = await compare_ring(connection, database.place, checks)
        await _write_down(connection, ring_keys, {one: checks[one] for one in checks.keys() - written}, now)


async def compare_ring(connection: AsyncConnection, place: str, checks: Mapping[str, bytes]) -> set[str]:
    """Compare as `check_ring`, write nothing, and return the ids that the database knows. Raises StartupError."""
    known = await _known(connection, ring_keys)
    if known.keys() & checks.keys() and not _agree(known, checks):
        raise StartupError(f"A key of this node's ring has the id of another one in {place}.")
    for key_id, count in (await ring_keys_in_use(connection)).items():
        if key_id not in checks:
            raise StartupError(
                f"{count} credentials of providers and secrets of webhooks in {place} are sealed under {key_id}, "
                "which is not in this node's ring; name it in server.key_ring, or restore it from a backup."
            )
    return set(known)


async def peppers_in_use(connection: AsyncConnection, now: datetime) -> dict[str, int]:
    """Return how many secrets that may work now or again were made under each pepper."""
    found = await connection.execute(
        select(key_secrets.c.pepper_id, func.count())
        .join(keys)
        .where(
            keys.c.state != KeyState.REVOKED,
            _later(keys.c.expire_time, now),
            _later(key_secrets.c.expire_time, now),
        )
        .group_by(key_secrets.c.pepper_id)
        .order_by(key_secrets.c.pepper_id)
    )
    return {row[0]: row[1] for row in found}


async def ring_keys_in_use(connection: AsyncConnection) -> dict[str, int]:
    """Return how many credentials of providers and secrets of webhooks are sealed under each key of the ring."""
    documents = (await connection.execute(select(providers.c.document))).scalars()
    sealed = [read_provider(document).sealed_credential for document in documents]
    # Who looks at secrets before the schema is brought up to date finds no such table.
    if await connection.run_sync(lambda sync: inspect(sync).has_table(webhooks.name)):
        for row in await connection.execute(select(webhooks.c.sealed_secret, webhooks.c.old_sealed_secret)):
            sealed += row
    return dict(sorted(Counter(sealed_under(one) for one in sealed if one).items()))


async def _known(connection: AsyncConnection, table: Table) -> dict[str, bytes]:
    rows = (await connection.execute(select(table.c.id, table.c.check_value))).all()
    return {row.id: row.check_value for row in rows}


def _agree(known: Mapping[str, bytes], checks: Mapping[str, bytes]) -> bool:
    both = known.keys() & checks.keys()
    return bool(both) and all(hmac.compare_digest(known[one], checks[one]) for one in both)


async def _write_down(connection: AsyncConnection, table: Table, checks: Mapping[str, bytes], now: datetime) -> None:
    rows = [{"id": one, "check_value": check, "create_time": now} for one, check in checks.items()]
    if rows:
        await connection.execute(table.insert(), rows)


def _later(column: ColumnElement[datetime], now: datetime) -> ColumnElement[bool]:
    return or_(column.is_(None), column > now)
