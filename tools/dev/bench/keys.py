"""What finding a key costs among so many: `python -m dev.bench.keys COUNT FILE` prints JSON, microseconds of CPU.

`warm` is a key that is at hand, `cold` one that SQLite must be asked for. There is an organization for each hundred
keys. The time is that of this process; making the keys is not in it.
"""

from __future__ import annotations

import asyncio
import itertools
import statistics
import sys
import time
from pathlib import Path

import orjson
from sqlalchemy import Table
from sqlalchemy.ext.asyncio import AsyncConnection

from tokendance_server.domain.clock import SystemClock
from tokendance_server.domain.keys.key import KeyDraft, KeyQuota
from tokendance_server.domain.keys.keys import Keys
from tokendance_server.domain.keys.secrets import PepperRing, mint
from tokendance_server.domain.keys.verifier import Verifier
from tokendance_server.domain.organizations import Organizations
from tokendance_server.services.credentials import LOCAL_OPERATOR
from tokendance_server.stores.sql import tables
from tokendance_server.stores.sql.database import Database
from tokendance_server.stores.sql.keys import SqlKeyStore
from tokendance_server.stores.sql.organizations import SqlOrganizationStore

_KNOWN = 1000
_WARM_CALLS = 50_000
_KEYS_OF_ONE = 100
_PEPPER = bytes(range(32))


async def _measure(count: int, file: Path) -> dict[str, float]:
    clock, peppers = SystemClock(), PepperRing.of(_PEPPER)
    database = await Database.open_sqlite(file)
    try:
        store = SqlKeyStore(database)
        secrets = await _fill(database, store, peppers, count)

        def fresh() -> Verifier:
            return Verifier(store, peppers, clock, lambda: True)

        cold: list[float] = []
        for verifier, secret in zip(itertools.repeat(fresh()), secrets, strict=False):
            before = time.process_time()
            await verifier.verify(secret)
            cold.append(time.process_time() - before)
        before = time.process_time()
        for secret in itertools.islice(itertools.cycle(secrets), _WARM_CALLS):
            if verifier.verify_cached(secret) is None:
                raise RuntimeError("a key is not at hand")
        warm = (time.process_time() - before) / _WARM_CALLS
    finally:
        await database.close()
    return {"warm": warm * 1e6, "cold": statistics.median(cold) * 1e6}


async def _fill(database: Database, store: SqlKeyStore, peppers: PepperRing, count: int) -> list[str]:
    """Make one key by the rules and copies of it, and return the secrets of a thousand of them, or of all."""
    clock = SystemClock()
    organizations = Organizations(SqlOrganizationStore(database), clock)
    names = await organizations.bootstrap()
    assert names is not None
    draft = KeyDraft(
        purpose="bench",
        owner=names.member,
        team=names.team,
        quota=KeyQuota(inherited_from=names.organization),
        rotation_period_s=86_400 * 90,
        responsible=names.member,
    )
    await Keys(store, organizations, peppers, clock, lambda _: None).create(LOCAL_OPERATOR, names.organization, draft)
    secrets = [mint() for _ in range(min(count, _KNOWN))]
    org, many = "printf('org_%026d', n % :orgs)", {"orgs": max(count // _KEYS_OF_ONE, 1)}
    async with database.transaction() as connection:
        # The digests come in no order, and each goes to its own place of an index.
        await connection.exec_driver_sql("PRAGMA cache_size = -400000")
        await _copy(connection, tables.organizations, many["orgs"], many, id=org)
        for table, own in ((tables.teams, "id"), (tables.members, "id")):
            await _copy(connection, table, many["orgs"], many, organization_id=org, **{own: own})
        key = "printf('key_%026d', n)"
        await _copy(connection, tables.keys, count, many, organization_id=org, id=key)
        await _copy(
            connection, tables.key_secrets, count, many, organization_id=org, key_id=key, digest="randomblob(32)"
        )
        spread = count // len(secrets)
        update = "UPDATE key_secrets SET digest = ? WHERE key_id = ?"
        rows = [(peppers.digest(secret), f"key_{at * spread:026}") for at, secret in enumerate(secrets)]
        await connection.exec_driver_sql(update, rows)
    return secrets


async def _copy(connection: AsyncConnection, table: Table, count: int, values: dict[str, int], **changed: str) -> None:
    """Copy the one row of a table so many times, with the columns in `changed` by an expression over n."""
    names = [column.name for column in table.columns]
    chosen = ", ".join(changed.get(name, f"one.{name}") for name in names)
    statement = (
        f"WITH RECURSIVE numbers(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM numbers LIMIT {count}), "  # noqa: S608 - names of ours
        f"one AS (SELECT * FROM {table.name} LIMIT 1) "
        f"INSERT INTO {table.name} ({', '.join(names)}) SELECT {chosen} FROM one, numbers"
    )
    await connection.exec_driver_sql(statement.replace(":orgs", str(values["orgs"])))


if __name__ == "__main__":
    print(orjson.dumps(asyncio.run(_measure(int(sys.argv[1]), Path(sys.argv[2])))).decode())
