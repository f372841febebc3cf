"""Databases as earlier versions left them, with data, and processes that die while they migrate."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime

from alembic import command
from sqlalchemy import Connection, text

from tokendance_server.stores.migrations import upgrade

NOW = datetime(2026, 6, 1, 12, 0, 0, 123456, tzinfo=UTC)
ORGANIZATION = "org_01h455vb4pex5vsknk084sn02q"
KEY = "key_01h455vb4pex5vsknk084sn02r"
DIGEST = b"\x00d" * 16

_ROWS = (
    ("organizations", {"id": ORGANIZATION, "display_name": "Tänze", "create_time": NOW}),
    ("teams", {"organization_id": ORGANIZATION, "id": "team_1", "display_name": "x", "create_time": NOW}),
    ("members", {"organization_id": ORGANIZATION, "id": "user_1", "display_name": "x", "create_time": NOW}),
    (
        "keys",
        {
            "organization_id": ORGANIZATION,
            "id": KEY,
            "purpose": "from an old version",
            "owner_id": "user_1",
            "team_id": "team_1",
            "quota_inherited_from": "organizations/x",
            "quota_limits": "[]",
            "rotation_period_s": 86_400,
            "rotation_responsible_id": "user_1",
            "rotation_due_time": NOW,
            "state": "active",
            "secret_prefix": "tdk_a1B2",
            "secret_suffix": "Z9z9",
            "allowed_models": "[]",
            "allowed_networks": "[]",
            "labels": '{"a": "1"}',
            "excluded_route_tags": "[]",
            "create_time": NOW,
            "update_time": NOW,
            "version": 1,
        },
    ),
    (
        "key_secrets",
        {
            "organization_id": ORGANIZATION,
            "key_id": KEY,
            "digest": DIGEST,
            "pepper_id": "pep_old",
            "create_time": NOW,
        },
    ),
)
_MIGRATE_AND_DIE = """
import asyncio, os, signal, sys
from pathlib import Path
from sqlalchemy import event
from sqlalchemy.engine import Engine
from tokendance_server.stores.sql.database import Database

place, fatal = sys.argv[1:]

def die(_connection, _cursor, statement, *_):
    if statement.strip().startswith(fatal):
        os.kill(os.getpid(), signal.SIGKILL)

event.listen(Engine, "after_cursor_execute", die)

async def migrate():
    if place.startswith("postgresql:"):
        await (await Database.connect_postgresql(place)).migrate()
    else:
        await Database.open_sqlite(Path(place))

asyncio.run(migrate())
"""


def make_first_schema(connection: Connection, *, schema: bool = True) -> None:
    """Make the schema of the first version, where it is wanted, and one key with the SQL of that time."""
    if schema:
        config = upgrade._config()
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
    postgresql = connection.dialect.name == "postgresql"
    for table, row in _ROWS:
        # SQLite keeps times as text without a zone.
        values = {
            name: value.replace(tzinfo=None).isoformat(" ") if isinstance(value, datetime) and not postgresql else value
            for name, value in row.items()
        }
        marks = ", ".join(f"CAST(:{name} AS json)" if postgresql and _is_json(name) else f":{name}" for name in values)
        connection.execute(text(f"INSERT INTO {table} ({', '.join(values)}) VALUES ({marks})"), values)


def migrate_and_die(place: str, fatal: str) -> None:
    """Migrate in a process that is killed right after the first statement that begins with `fatal`."""
    done = subprocess.run(
        [sys.executable, "-c", _MIGRATE_AND_DIE, place, fatal], capture_output=True, text=True, timeout=50, check=False
    )
    assert done.returncode == -9, done.stderr


def _is_json(column: str) -> bool:
    return column in ("quota_limits", "allowed_models", "allowed_networks", "labels", "excluded_route_tags")
