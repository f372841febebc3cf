"""Which peppers a database was filled under, so that a node with another one is refused instead of every key."""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from datetime import datetime

from sqlalchemy import select

from tokendance_server.startup import StartupError
from tokendance_server.stores.sql.database import Database
from tokendance_server.stores.sql.tables import key_secrets, peppers


async def check_peppers(database: Database, checks: Mapping[str, bytes], now: datetime) -> None:
    """Compare the peppers of this node with those of the database, and write down the ones that are new there.

    `checks` maps the ids of a ring to the digests of one constant under each. A database that knows none takes them.
    Raises StartupError where an id stands for another pepper, or where the node has none that the database knows.
    """
    async with database.transaction() as connection:
        await database.lock(connection, "peppers")
        rows = (await connection.execute(select(peppers.c.id, peppers.c.check_value))).all()
        known = {row.id: row.check_value for row in rows}
        if not known:
            # Keys that are older than this table say by themselves what they were made under.
            used = (await connection.execute(select(key_secrets.c.pepper_id).distinct())).scalars()
            known = {pepper_id: checks.get(pepper_id, b"") for pepper_id in used}
        both = known.keys() & checks.keys()
        if known and not (both and all(hmac.compare_digest(known[one], checks[one]) for one in both)):
            raise StartupError(
                f"The pepper of this node is not the one under which the keys in {database.place} were made, and none "
                "of them would work; give every node the same one with server.pepper, or restore it from a backup."
            )
        rows_of_new = [
            {"id": pepper_id, "check_value": check, "create_time": now}
            for pepper_id, check in checks.items()
            if pepper_id not in {row.id for row in rows}
        ]
        if rows_of_new:
            await connection.execute(peppers.insert(), rows_of_new)
