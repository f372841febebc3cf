"""Brings a database to the schema of this version, through Alembic, on a connection that is already there."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from tokendance_server.stores.migrations import HEAD


def upgrade(connection: Connection) -> None:
    """Apply every migration that is missing, in the connection's own transaction."""
    config = _config()
    config.attributes["connection"] = connection
    command.upgrade(config, HEAD)


def is_known(version: str) -> bool:
    """Tell whether this version of the gateway knows a schema."""
    script = ScriptDirectory.from_config(_config())
    return any(revision.revision == version for revision in script.walk_revisions())


def _config() -> Config:
    config = Config()
    # Percent signs would be read as references to other options.
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config
