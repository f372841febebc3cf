"""Answers kept for calls that are sent again with the same idempotency key, and claims of those that run."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "replays",
        sa.Column("organization_id", sa.String(40), nullable=False),
        sa.Column("scope", sa.LargeBinary(32), nullable=False),
        sa.Column("fingerprint", sa.LargeBinary(32), nullable=False),
        sa.Column("token", sa.String(40), nullable=False),
        sa.Column("key_id", sa.String(40), nullable=False),
        sa.Column("secret_time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("request_id", sa.String(200), nullable=False),
        sa.Column("create_time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expire_time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("sealed", sa.LargeBinary()),
        sa.PrimaryKeyConstraint("organization_id", "scope", name="pk_replays"),
    )
    op.create_index(
        "ix_replays_organization_id_key_id_create_time", "replays", ["organization_id", "key_id", "create_time"]
    )
    op.create_index("ix_replays_key_id", "replays", ["key_id"])
    op.create_index("ix_replays_expire_time", "replays", ["expire_time"])
