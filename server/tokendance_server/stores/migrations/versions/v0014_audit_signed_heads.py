"""Ends of chains of the audit trail that the gateway signed."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "audit_signed_heads",
        sa.Column("organization_id", sa.String(40), nullable=False),
        sa.Column("sequence", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("digest", sa.LargeBinary(32), nullable=False),
        sa.Column("time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("signature", sa.LargeBinary(64), nullable=False),
        sa.Column("signing_key_id", sa.String(40), nullable=False),
        sa.PrimaryKeyConstraint("organization_id", "sequence", name="pk_audit_signed_heads"),
    )
