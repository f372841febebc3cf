"""Brings a database to the schema of this version, through Alembic, on a connection that is already there."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from tokendance_server.stores.migrations import HEAD, OLDEST_CODE_VERSION
from tokendance_server.stores.sql.tables import schema_info


def upgrade(connection: Connection) -> None:
    """Apply every migration that is missing, in the connection's own transaction, and say whom the result serves."""
    config = _config()
    config.attributes["connection"] = connection
    command.upgrade(config, HEAD)
    # Kept beside Alembic's own table rather than in it, and as old: every schema has both.
    schema_info.create(connection, checkfirst=True)
    connection.execute(schema_info.delete())
    connection.execute(schema_info.insert(), {"oldest_code_version": OLDEST_CODE_VERSION})


def pending(revision: str | None) -> Sequence[tuple[str, str]]:
    """Return the migrations after `revision`, in order: number and what each does, in one line."""
    found = []
    for script in ScriptDirectory.from_config(_config()).walk_revisions():
        if script.revision == revision:
            break
        found.append((script.revision, script.doc))
    return found[::-1]


def _config() -> Config:
    config = Config()
    # Percent signs would be read as references to other options.
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config
