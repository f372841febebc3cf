"""The tables. Each tenant's rows lead with its organization; names and columns change by migrations only."""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
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


class Text(TypeDecorator[str]):
    """A text of so many characters at most. PostgreSQL keeps no NUL: there it becomes U+FFFD, and nothing is found."""

    impl = String
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """Return what can be kept."""
        if value is None or dialect.name != "postgresql":
            return value
        return value.replace("\0", "\N{REPLACEMENT CHARACTER}")


schema_info = Table(
    "schema_info",
    metadata,
    Column("oldest_code_version", String(40), nullable=False),
)

organizations = Table(
    "organizations",
    metadata,
    Column("id", Text(40), primary_key=True),
    Column("display_name", Text(200), nullable=False),
    Column("create_time", Instant, nullable=False),
    Column("search", Text(), nullable=False),
    Column("update_time", Instant),
    Column("version", Integer, nullable=False),
    Column("labels", JSON, nullable=False),
    Column("state", Text(20), nullable=False),
    Column("contact", Text(200), nullable=False),
)

teams = Table(
    "teams",
    metadata,
    Column("organization_id", ForeignKey("organizations.id"), primary_key=True),
    Column("id", Text(40), primary_key=True),
    Column("display_name", Text(200), nullable=False),
    Column("create_time", Instant, nullable=False),
    Column("search", Text(), nullable=False),
    Column("update_time", Instant),
    Column("version", Integer, nullable=False),
    Column("labels", JSON, nullable=False),
    Column("description", Text(500), nullable=False),
    # A team is also found by its id alone.
    Index(None, "id"),
)

members = Table(
    "members",
    metadata,
    Column("organization_id", ForeignKey("organizations.id"), primary_key=True),
    Column("id", Text(40), primary_key=True),
    Column("display_name", Text(200), nullable=False),
    Column("create_time", Instant, nullable=False),
    Column("search", Text(), nullable=False),
    Column("update_time", Instant),
    Column("version", Integer, nullable=False),
    Column("subject", Text(255), nullable=False),
    Column("email", Text(320), nullable=False),
    Column("folded_email", Text(), nullable=False),
    Column("roles", Text(40), nullable=False),
    Column("state", Text(20), nullable=False),
    Index(None, "organization_id", "subject"),
    Index(None, "organization_id", "folded_email"),
    # Who signs in is looked for in every organization.
    Index(None, "subject"),
    Index(None, "folded_email"),
)

member_teams = Table(
    "member_teams",
    metadata,
    Column("organization_id", Text(40), primary_key=True),
    Column("member_id", Text(40), primary_key=True),
    Column("team_id", Text(40), primary_key=True),
    ForeignKeyConstraint(["organization_id", "member_id"], ["members.organization_id", "members.id"]),
    ForeignKeyConstraint(["organization_id", "team_id"], ["teams.organization_id", "teams.id"]),
    Index(None, "organization_id", "team_id"),
)

policies = Table(
    "policies",
    metadata,
    Column("organization_id", ForeignKey("organizations.id"), primary_key=True),
    Column("document", JSON, nullable=False),
    Column("update_time", Instant),
    Column("version", Integer, nullable=False),
)

preferences = Table(
    "preferences",
    metadata,
    Column("name", Text(200), primary_key=True),
    Column("document", JSON, nullable=False),
)

creates = Table(
    "creates",
    metadata,
    Column("organization_id", Text(40), primary_key=True),
    Column("kind", Text(20), primary_key=True),
    Column("request_id", Text(128), primary_key=True),
    Column("made_id", Text(40), nullable=False),
    Column("fingerprint", LargeBinary(32), nullable=False),
)

keys = Table(
    "keys",
    metadata,
    Column("organization_id", ForeignKey("organizations.id"), primary_key=True),
    Column("id", Text(40), primary_key=True),
    Column("purpose", Text(200), nullable=False),
    Column("owner_id", Text(40), nullable=False),
    Column("team_id", Text(40), nullable=False),
    Column("quota_inherited_from", Text(200), nullable=False),
    Column("quota_limits", JSON, nullable=False),
    Column("rotation_period_s", BigInteger, nullable=False),
    Column("rotation_responsible_id", Text(40), nullable=False),
    Column("rotation_due_time", Instant, nullable=False),
    Column("state", Text(20), nullable=False),
    Column("secret_prefix", Text(10), nullable=False),
    Column("secret_suffix", Text(10), nullable=False),
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
    Index(None, "organization_id", "owner_id"),
    Index(None, "organization_id", "team_id"),
)

key_secrets = Table(
    "key_secrets",
    metadata,
    Column("organization_id", Text(40), primary_key=True),
    Column("key_id", Text(40), primary_key=True),
    Column("digest", LargeBinary(32), primary_key=True),
    Column("pepper_id", Text(40), nullable=False),
    Column("create_time", Instant, nullable=False),
    Column("expire_time", Instant),
    ForeignKeyConstraint(["organization_id", "key_id"], ["keys.organization_id", "keys.id"]),
    UniqueConstraint("digest"),
)

key_creates = Table(
    "key_creates",
    metadata,
    Column("organization_id", Text(40), primary_key=True),
    Column("request_id", Text(128), primary_key=True),
    Column("key_id", Text(40), nullable=False),
    Column("fingerprint", LargeBinary(32), nullable=False),
    ForeignKeyConstraint(["organization_id", "key_id"], ["keys.organization_id", "keys.id"]),
)

key_rotations = Table(
    "key_rotations",
    metadata,
    Column("organization_id", Text(40), primary_key=True),
    Column("request_id", Text(128), primary_key=True),
    Column("key_id", Text(40), nullable=False),
    Column("fingerprint", LargeBinary(32), nullable=False),
    Column("old_secret_expire_time", Instant, nullable=False),
    ForeignKeyConstraint(["organization_id", "key_id"], ["keys.organization_id", "keys.id"]),
)

key_requests = Table(
    "key_requests",
    metadata,
    Column("organization_id", Text(40), primary_key=True),
    Column("id", Text(40), primary_key=True),
    Column("requester_id", Text(40), nullable=False),
    # The key as it is wanted or, once granted, as it was granted.
    Column("draft", JSON, nullable=False),
    Column("state", Text(20), nullable=False),
    Column("key_id", Text(40)),
    Column("decision_reason", Text(500), nullable=False),
    Column("decided_by", Text(400), nullable=False),
    Column("create_time", Instant, nullable=False),
    Column("decide_time", Instant),
    Column("reveal_expire_time", Instant),
    Column("version", Integer, nullable=False),
    ForeignKeyConstraint(["organization_id", "requester_id"], ["members.organization_id", "members.id"]),
    ForeignKeyConstraint(["organization_id", "key_id"], ["keys.organization_id", "keys.id"]),
    Index(None, "organization_id", "create_time", "id"),
    Index(None, "create_time", "id"),
    Index(None, "organization_id", "requester_id"),
)

changes = Table(
    "changes",
    metadata,
    # Given by the writer, not by the database: a number that a rollback leaves unused would look like a lost change.
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("kind", Text(20), nullable=False),
    # No reference: a change outlives what it tells of.
    Column("organization_id", Text(40), nullable=False),
    Column("name", Text(400), nullable=False),
    Column("time", Instant, nullable=False),
)

node_leases = Table(
    "node_leases",
    metadata,
    Column("node_id", Text(40), primary_key=True),
    # Another one for each start of a node: a copied data directory does not make two nodes one.
    Column("run_id", Text(40), nullable=False),
    Column("code_version", Text(40), nullable=False),
    Column("shared", Boolean, nullable=False),
    Column("start_time", Instant, nullable=False),
    Column("renew_time", Instant, nullable=False),
    Column("expire_time", Instant, nullable=False),
)


quotas = Table(
    "quotas",
    metadata,
    Column("organization_id", ForeignKey("organizations.id"), primary_key=True),
    Column("subject", Text(200), primary_key=True),
    Column("limits", JSON, nullable=False),
    Column("update_time", Instant, nullable=False),
    Column("version", BigInteger, nullable=False),
)

replays = Table(
    "replays",
    metadata,
    Column("organization_id", Text(40), primary_key=True),
    Column("scope", LargeBinary(32), primary_key=True),
    Column("fingerprint", LargeBinary(32), nullable=False),
    Column("token", Text(40), nullable=False),
    Column("key_id", Text(40), nullable=False),
    Column("secret_time", Instant, nullable=False),
    Column("request_id", Text(200), nullable=False),
    Column("create_time", Instant, nullable=False),
    Column("expire_time", Instant, nullable=False),
    Column("sealed", LargeBinary),
    Index(None, "organization_id", "key_id", "create_time"),
    Index(None, "key_id"),
    Index(None, "expire_time"),
)


def _secret_checks(name: str) -> Table:
    """Return a table of the ids of secrets that nodes share, each with what tells them apart and tells nothing else."""
    return Table(
        name,
        metadata,
        Column("id", Text(40), primary_key=True),
        Column("check_value", LargeBinary(32), nullable=False),
        Column("create_time", Instant, nullable=False),
    )


peppers = _secret_checks("peppers")
ring_keys = _secret_checks("ring_keys")


def _catalogue_table(name: str, longest_name: int) -> Table:
    """Return a table of the platform's own: what an administrator wrote is one document without secrets."""
    return Table(
        name,
        metadata,
        Column("name", Text(longest_name), primary_key=True),
        Column("document", JSON, nullable=False),
        Column("request_id", Text(128), nullable=False),
        Column("create_time", Instant, nullable=False),
        Column("update_time", Instant, nullable=False),
        Column("version", Integer, nullable=False),
    )


providers = _catalogue_table("providers", 63)
models = _catalogue_table("models", 256)
price_lists = _catalogue_table("price_lists", 256)

catalogue_state = Table(
    "catalogue_state",
    metadata,
    # One row, or none before the first change.
    Column("version", BigInteger, nullable=False),
)

job_leases = Table(
    "job_leases",
    metadata,
    Column("name", Text(40), primary_key=True),
    # A run of a node.
    Column("holder", Text(40), nullable=False),
    Column("expire_time", Instant, nullable=False),
)
