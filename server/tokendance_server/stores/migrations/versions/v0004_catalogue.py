"""Providers and models."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_INSTANT = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Make the tables."""
    for table, name_length in (("providers", 63), ("models", 256)):
        op.create_table(
            table,
            sa.Column("name", sa.String(name_length), nullable=False),
            sa.Column("document", sa.JSON(), nullable=False),
            sa.Column("request_id", sa.String(128), nullable=False),
            sa.Column("create_time", _INSTANT, nullable=False),
            sa.Column("update_time", _INSTANT, nullable=False),
            sa.Column("version", sa.Integer(), nullable=False),
            sa.PrimaryKeyConstraint("name", name=f"pk_{table}"),
        )
    op.create_table("catalogue_state", sa.Column("version", sa.BigInteger(), nullable=False))
