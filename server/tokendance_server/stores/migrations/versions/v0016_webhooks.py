"""Webhooks, and what is on its way to them."""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "webhooks",
        sa.Column("organization_id", sa.String(40), nullable=False),
        sa.Column("id", sa.String(40), nullable=False),
        sa.Column("display_name", sa.String(100), nullable=False),
        sa.Column("url", sa.String(2048), nullable=False),
        sa.Column("events", sa.JSON(), nullable=False),
        sa.Column("percents", sa.JSON(), nullable=False),
        sa.Column("subjects", sa.JSON(), nullable=False),
        sa.Column("disabled", sa.Boolean(), nullable=False),
        sa.Column("sealed_secret", sa.String(400), nullable=False),
        sa.Column("old_sealed_secret", sa.String(400), nullable=False),
        sa.Column("old_secret_expire_time", sa.DateTime(timezone=True)),
        sa.Column("create_time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("update_time", sa.DateTime(timezone=True)),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("create_request_id", sa.String(128)),
        sa.Column("fingerprint", sa.LargeBinary(32), nullable=False),
        sa.Column("rotate_request_id", sa.String(128), nullable=False),
        sa.Column("last_success_time", sa.DateTime(timezone=True)),
        sa.Column("last_failure_time", sa.DateTime(timezone=True)),
        sa.Column("last_failure", sa.String(200), nullable=False),
        sa.Column("consecutive_failures", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("organization_id", "id", name="pk_webhooks"),
        sa.UniqueConstraint(
            "organization_id", "create_request_id", name="uq_webhooks_organization_id_create_request_id"
        ),
        sa.ForeignKeyConstraint(["organization_id"], ["organizations.id"], name="fk_webhooks_organization_id"),
    )
    op.create_table(
        "webhook_deliveries",
        sa.Column("organization_id", sa.String(40), nullable=False),
        sa.Column("webhook_id", sa.String(40), nullable=False),
        sa.Column("crossing", sa.LargeBinary(32), nullable=False),
        sa.Column("id", sa.String(40), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("state", sa.String(20), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("next_time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("create_time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("forget_time", sa.DateTime(timezone=True)),
        sa.PrimaryKeyConstraint("organization_id", "webhook_id", "crossing", name="pk_webhook_deliveries"),
        sa.UniqueConstraint("id", name="uq_webhook_deliveries_id"),
    )
    op.create_index("ix_webhook_deliveries_state_next_time", "webhook_deliveries", ["state", "next_time"])
    op.create_index("ix_webhook_deliveries_forget_time", "webhook_deliveries", ["forget_time"])
