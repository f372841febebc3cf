"""The tables of the console: sign-ins that have begun, and sessions. Neither holds what a browser holds."""

from __future__ import annotations

from sqlalchemy import Column, Index, Integer, LargeBinary, PrimaryKeyConstraint, Table
from sqlalchemy import Text as LongText

from tokendance_server.stores.sql.tables import Instant, Text, metadata

__all__ = ["console_logins", "console_sessions"]

console_logins = Table(
    "console_logins",
    metadata,
    # Of the state, or of the id of a sign-in link that was used.
    Column("digest", LargeBinary(32), nullable=False),
    Column("sealed", LongText, nullable=False),
    Column("expire_time", Instant, nullable=False),
    PrimaryKeyConstraint("digest", name="pk_console_logins"),
    Index(None, "expire_time"),
)

console_sessions = Table(
    "console_sessions",
    metadata,
    Column("digest", LargeBinary(32), nullable=False),
    Column("id", Text(40), nullable=False),
    Column("person", Text(400), nullable=False),
    Column("organization_id", Text(40), nullable=False),
    Column("sealed", LongText, nullable=False),
    Column("create_time", Instant, nullable=False),
    Column("sign_in_time", Instant, nullable=False),
    Column("idle_expire_time", Instant, nullable=False),
    Column("expire_time", Instant, nullable=False),
    Column("version", Integer, nullable=False),
    Column("renew_time", Instant),
    PrimaryKeyConstraint("digest", name="pk_console_sessions"),
    Index(None, "expire_time"),
)
