"""The leases of the nodes that serve the database, and what tells their peppers apart."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_ID = sa.String(40)
_INSTANT = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "node_leases",
        sa.Column("node_id", _ID, nullable=False),
        sa.Column("run_id", _ID, nullable=False),
        sa.Column("code_version", _ID, nullable=False),
        sa.Column("shared", sa.Boolean(), nullable=False),
        sa.Column("start_time", _INSTANT, nullable=False),
        sa.Column("renew_time", _INSTANT, nullable=False),
        sa.Column("expire_time", _INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("node_id", name="pk_node_leases"),
    )
    op.create_table(
        "peppers",
        sa.Column("id", _ID, nullable=False),
        sa.Column("check_value", sa.LargeBinary(32), nullable=False),
        sa.Column("create_time", _INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_peppers"),
    )
