"""Sign-ins that have begun, and sessions of the console."""

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "console_logins",
        sa.Column("digest", sa.LargeBinary(32), nullable=False),
        sa.Column("sealed", sa.Text(), nullable=False),
        sa.Column("expire_time", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("digest", name="pk_console_logins"),
    )
    op.create_index("ix_console_logins_expire_time", "console_logins", ["expire_time"])
    op.create_table(
        "console_sessions",
        sa.Column("digest", sa.LargeBinary(32), nullable=False),
        sa.Column("id", sa.String(40), nullable=False),
        sa.Column("person", sa.String(400), nullable=False),
        sa.Column("organization_id", sa.String(40), nullable=False),
        sa.Column("sealed", sa.Text(), nullable=False),
        sa.Column("create_time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("sign_in_time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("idle_expire_time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expire_time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("renew_time", sa.DateTime(timezone=True)),
        sa.PrimaryKeyConstraint("digest", name="pk_console_sessions"),
    )
    op.create_index("ix_console_sessions_expire_time", "console_sessions", ["expire_time"])
