"""Quota that internal services hold for calls which they make by another way."""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "reservations",
        sa.Column("organization_id", sa.String(40), nullable=False),
        sa.Column("id", sa.String(40), nullable=False),
        sa.Column("record_id", sa.String(40), nullable=False),
        sa.Column("maker", sa.String(200), nullable=False),
        sa.Column("request_key", sa.String(128)),
        sa.Column("fingerprint", sa.LargeBinary(32), nullable=False),
        sa.Column("state", sa.String(20), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("create_time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expire_time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("document", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("organization_id", "id", name="pk_reservations"),
        sa.UniqueConstraint("maker", "request_key", name="uq_reservations_maker_request_key"),
    )
    op.create_index("ix_reservations_organization_id_expire_time", "reservations", ["organization_id", "expire_time"])
    op.create_index("ix_reservations_expire_time", "reservations", ["expire_time"])
