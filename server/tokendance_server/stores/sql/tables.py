"""The tables. Each tenant's rows lead with its organization; names and columns change by migrations only."""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    DateTime,
    Dialect,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    TypeDecorator,
    UniqueConstraint,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)


class Instant(TypeDecorator[datetime]):
    """An aware time in UTC. SQLite keeps no zone, so it is taken off there and put back."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Return the time in UTC. Raises ValueError for one without a zone."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a time without a zone cannot be kept")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Return the time with its zone."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


organizations = Table(
    "organizations",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("display_name", String(200), nullable=False),
    Column("create_time", Instant, nullable=False),
)

teams = Table(
    "teams",
    metadata,
    Column("organization_id", ForeignKey("organizations.id"), primary_key=True),
    Column("id", String(40), primary_key=True),
    Column("display_name", String(200), nullable=False),
    Column("create_time", Instant, nullable=False),
)

members = Table(
    "members",
    metadata,
    Column("organization_id", ForeignKey("organizations.id"), primary_key=True),
    Column("id", String(40), primary_key=True),
    Column("display_name", String(200), nullable=False),
    Column("create_time", Instant, nullable=False),
)

keys = Table(
    "keys",
    metadata,
    Column("organization_id", ForeignKey("organizations.id"), primary_key=True),
    Column("id", String(40), primary_key=True),
    Column("purpose", String(200), nullable=False),
    Column("owner_id", String(40), nullable=False),
    Column("team_id", String(40), nullable=False),
    Column("quota_inherited_from", String(200), nullable=False),
    Column("quota_limits", JSON, nullable=False),
    Column("rotation_period_s", BigInteger, nullable=False),
    Column("rotation_responsible_id", String(40), nullable=False),
    Column("rotation_due_time", Instant, nullable=False),
    Column("state", String(20), nullable=False),
    Column("secret_prefix", String(10), nullable=False),
    Column("secret_suffix", String(10), nullable=False),
    Column("expire_time", Instant),
    Column("allowed_models", JSON, nullable=False),
    Column("allowed_networks", JSON, nullable=False),
    Column("labels", JSON, nullable=False),
    Column("excluded_route_tags", JSON, nullable=False),
    Column("create_time", Instant, nullable=False),
    Column("update_time", Instant, nullable=False),
    Column("rotate_time", Instant),
    Column("last_used_time", Instant),
    Column("revoke_time", Instant),
    Column("version", Integer, nullable=False),
    ForeignKeyConstraint(["organization_id", "owner_id"], ["members.organization_id", "members.id"]),
    ForeignKeyConstraint(["organization_id", "team_id"], ["teams.organization_id", "teams.id"]),
    ForeignKeyConstraint(["organization_id", "rotation_responsible_id"], ["members.organization_id", "members.id"]),
    # A key is also found by its id alone, and lists run from the newest to the oldest.
    UniqueConstraint("id"),
    Index(None, "organization_id", "create_time", "id"),
    Index(None, "create_time", "id"),
)

key_secrets = Table(
    "key_secrets",
    metadata,
    Column("organization_id", String(40), primary_key=True),
    Column("key_id", String(40), primary_key=True),
    Column("digest", LargeBinary(32), primary_key=True),
    Column("pepper_id", String(40), nullable=False),
    Column("create_time", Instant, nullable=False),
    Column("expire_time", Instant),
    ForeignKeyConstraint(["organization_id", "key_id"], ["keys.organization_id", "keys.id"]),
    UniqueConstraint("digest"),
)

key_creates = Table(
    "key_creates",
    metadata,
    Column("organization_id", String(40), primary_key=True),
    Column("request_id", String(128), primary_key=True),
    Column("key_id", String(40), nullable=False),
    Column("fingerprint", LargeBinary(32), nullable=False),
    ForeignKeyConstraint(["organization_id", "key_id"], ["keys.organization_id", "keys.id"]),
)
