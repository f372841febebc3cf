"""Organizations, teams, members, keys with their secrets, and what makes a repeated creation harmless."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_ID = sa.String(40)
_NAME = sa.String(200)
_INSTANT = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "organizations",
        sa.Column("id", _ID, nullable=False),
        sa.Column("display_name", _NAME, nullable=False),
        sa.Column("create_time", _INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_organizations"),
    )
    for table in ("teams", "members"):
        op.create_table(
            table,
            sa.Column("organization_id", _ID, nullable=False),
            sa.Column("id", _ID, nullable=False),
            sa.Column("display_name", _NAME, nullable=False),
            sa.Column("create_time", _INSTANT, nullable=False),
            sa.PrimaryKeyConstraint("organization_id", "id", name=f"pk_{table}"),
            sa.ForeignKeyConstraint(["organization_id"], ["organizations.id"], name=f"fk_{table}_organization_id"),
        )
    _make_keys()
    op.create_table(
        "key_secrets",
        sa.Column("organization_id", _ID, nullable=False),
        sa.Column("key_id", _ID, nullable=False),
        sa.Column("digest", sa.LargeBinary(32), nullable=False),
        sa.Column("pepper_id", _ID, nullable=False),
        sa.Column("create_time", _INSTANT, nullable=False),
        sa.Column("expire_time", _INSTANT),
        sa.PrimaryKeyConstraint("organization_id", "key_id", "digest", name="pk_key_secrets"),
        _reference("key_secrets", "key_id", "keys"),
        sa.UniqueConstraint("digest", name="uq_key_secrets_digest"),
    )
    op.create_table(
        "key_creates",
        sa.Column("organization_id", _ID, nullable=False),
        sa.Column("request_id", sa.String(128), nullable=False),
        sa.Column("key_id", _ID, nullable=False),
        sa.Column("fingerprint", sa.LargeBinary(32), nullable=False),
        sa.PrimaryKeyConstraint("organization_id", "request_id", name="pk_key_creates"),
        _reference("key_creates", "key_id", "keys"),
    )


def _make_keys() -> None:
    op.create_table(
        "keys",
        sa.Column("organization_id", _ID, nullable=False),
        sa.Column("id", _ID, nullable=False),
        sa.Column("purpose", _NAME, nullable=False),
        sa.Column("owner_id", _ID, nullable=False),
        sa.Column("team_id", _ID, nullable=False),
        sa.Column("quota_inherited_from", _NAME, nullable=False),
        sa.Column("quota_limits", sa.JSON(), nullable=False),
        sa.Column("rotation_period_s", sa.BigInteger(), nullable=False),
        sa.Column("rotation_responsible_id", _ID, nullable=False),
        sa.Column("rotation_due_time", _INSTANT, nullable=False),
        sa.Column("state", sa.String(20), nullable=False),
        sa.Column("secret_prefix", sa.String(10), nullable=False),
        sa.Column("secret_suffix", sa.String(10), nullable=False),
        sa.Column("expire_time", _INSTANT),
        sa.Column("allowed_models", sa.JSON(), nullable=False),
        sa.Column("allowed_networks", sa.JSON(), nullable=False),
        sa.Column("labels", sa.JSON(), nullable=False),
        sa.Column("excluded_route_tags", sa.JSON(), nullable=False),
        sa.Column("create_time", _INSTANT, nullable=False),
        sa.Column("update_time", _INSTANT, nullable=False),
        sa.Column("rotate_time", _INSTANT),
        sa.Column("last_used_time", _INSTANT),
        sa.Column("revoke_time", _INSTANT),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("organization_id", "id", name="pk_keys"),
        sa.ForeignKeyConstraint(["organization_id"], ["organizations.id"], name="fk_keys_organization_id"),
        _reference("keys", "owner_id", "members"),
        _reference("keys", "team_id", "teams"),
        _reference("keys", "rotation_responsible_id", "members"),
        sa.UniqueConstraint("id", name="uq_keys_id"),
    )
    op.create_index("ix_keys_organization_id_create_time_id", "keys", ["organization_id", "create_time", "id"])
    op.create_index("ix_keys_create_time_id", "keys", ["create_time", "id"])


def _reference(table: str, column: str, other: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(
        ["organization_id", column],
        [f"{other}.organization_id", f"{other}.id"],
        name=f"fk_{table}_organization_id_{column}",
    )
