"""Members found by who signs in: by subject or invited address, in whichever organization."""

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the indexes."""
    op.create_index("ix_members_subject", "members", ["subject"])
    op.create_index("ix_members_folded_email", "members", ["folded_email"])
