"""The feed of changes, and what makes a repeated rotation harmless."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_ID = sa.String(40)
_INSTANT = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "changes",
        sa.Column("number", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("kind", sa.String(20), nullable=False),
        sa.Column("organization_id", _ID, nullable=False),
        sa.Column("name", sa.String(400), nullable=False),
        sa.Column("time", _INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_changes"),
    )
    op.create_table(
        "key_rotations",
        sa.Column("organization_id", _ID, nullable=False),
        sa.Column("request_id", sa.String(128), nullable=False),
        sa.Column("key_id", _ID, nullable=False),
        sa.Column("fingerprint", sa.LargeBinary(32), nullable=False),
        sa.Column("old_secret_expire_time", _INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("organization_id", "request_id", name="pk_key_rotations"),
        sa.ForeignKeyConstraint(
            ["organization_id", "key_id"],
            ["keys.organization_id", "keys.id"],
            name="fk_key_rotations_organization_id_key_id",
        ),
    )
