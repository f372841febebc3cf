"""The tables of webhooks: where warnings go, and what is on its way there."""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    PrimaryKeyConstraint,
    Table,
    UniqueConstraint,
)
from sqlalchemy import Text as LongText

from tokendance_server.stores.sql.tables import Instant, Text, metadata

__all__ = ["webhook_deliveries", "webhooks"]

webhooks = Table(
    "webhooks",
    metadata,
    Column("organization_id", ForeignKey("organizations.id"), nullable=False),
    Column("id", Text(40), nullable=False),
    Column("display_name", Text(100), nullable=False),
    Column("url", Text(2048), nullable=False),
    Column("events", JSON, nullable=False),
    Column("percents", JSON, nullable=False),
    Column("subjects", JSON, nullable=False),
    Column("disabled", Boolean, nullable=False),
    Column("sealed_secret", Text(400), nullable=False),
    Column("old_sealed_secret", Text(400), nullable=False),
    Column("old_secret_expire_time", Instant),
    Column("create_time", Instant, nullable=False),
    Column("update_time", Instant),
    Column("version", Integer, nullable=False),
    Column("create_request_id", Text(128)),
    Column("fingerprint", LargeBinary(32), nullable=False),
    Column("rotate_request_id", Text(128), nullable=False),
    # How it fares; not of its version.
    Column("last_success_time", Instant),
    Column("last_failure_time", Instant),
    Column("last_failure", Text(200), nullable=False),
    Column("consecutive_failures", Integer, nullable=False),
    PrimaryKeyConstraint("organization_id", "id", name="pk_webhooks"),
    UniqueConstraint("organization_id", "create_request_id"),
)

webhook_deliveries = Table(
    "webhook_deliveries",
    metadata,
    Column("organization_id", Text(40), nullable=False),
    Column("webhook_id", Text(40), nullable=False),
    # The digest of limit, window and threshold: what was sent once is not sent again by any node.
    Column("crossing", LargeBinary(32), nullable=False),
    Column("id", Text(40), nullable=False),
    Column("body", LongText, nullable=False),
    Column("state", Text(20), nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("next_time", Instant, nullable=False),
    Column("create_time", Instant, nullable=False),
    # Null: kept as long as the limit of a total, whose window never ends.
    Column("forget_time", Instant),
    PrimaryKeyConstraint("organization_id", "webhook_id", "crossing", name="pk_webhook_deliveries"),
    UniqueConstraint("id"),
    Index(None, "state", "next_time"),
    Index(None, "forget_time"),
)
