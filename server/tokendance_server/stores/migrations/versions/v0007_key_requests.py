"""Requests for keys: who asks for what, what was decided, and until when it can be revealed."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_ID = sa.String(40)
_INSTANT = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "key_requests",
        sa.Column("organization_id", _ID, nullable=False),
        sa.Column("id", _ID, nullable=False),
        sa.Column("requester_id", _ID, nullable=False),
        sa.Column("draft", sa.JSON(), nullable=False),
        sa.Column("state", sa.String(20), nullable=False),
        sa.Column("key_id", _ID),
        sa.Column("decision_reason", sa.String(500), nullable=False),
        sa.Column("decided_by", sa.String(400), nullable=False),
        sa.Column("create_time", _INSTANT, nullable=False),
        sa.Column("decide_time", _INSTANT),
        sa.Column("reveal_expire_time", _INSTANT),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("organization_id", "id", name="pk_key_requests"),
        sa.ForeignKeyConstraint(
            ["organization_id", "requester_id"],
            ["members.organization_id", "members.id"],
            name="fk_key_requests_organization_id_requester_id",
        ),
        sa.ForeignKeyConstraint(
            ["organization_id", "key_id"],
            ["keys.organization_id", "keys.id"],
            name="fk_key_requests_organization_id_key_id",
        ),
    )
    for columns in (
        ["organization_id", "create_time", "id"],
        ["create_time", "id"],
        ["organization_id", "requester_id"],
    ):
        op.create_index(f"ix_key_requests_{'_'.join(columns)}", "key_requests", columns)
