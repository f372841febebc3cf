"""What was used: requests, attempts, their sums, and the prices of models."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

_DIMENSIONS = (
    "key_id",
    "member_id",
    "team_id",
    "model",
    "provider_label",
    "surface",
    "outcome",
    "reason",
    "client_kind",
)


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "usage_records",
        sa.Column("organization_id", sa.String(40), nullable=False),
        sa.Column("start_us", sa.BigInteger(), nullable=False),
        sa.Column("id", sa.String(40), nullable=False),
        sa.Column("request_id", sa.String(200), nullable=False),
        sa.Column("node", sa.String(40), nullable=False),
        sa.Column("end_us", sa.BigInteger()),
        sa.Column("key_id", sa.String(40), nullable=False),
        sa.Column("member_id", sa.String(40), nullable=False),
        sa.Column("team_id", sa.String(40), nullable=False),
        sa.Column("model", sa.String(256), nullable=False),
        sa.Column("provider_label", sa.String(100), nullable=False),
        sa.Column("surface", sa.Integer(), nullable=False),
        sa.Column("outcome", sa.Integer(), nullable=False),
        sa.Column("reason", sa.Integer(), nullable=False),
        sa.Column("client_kind", sa.String(64), nullable=False),
        sa.Column("user_name", sa.String(512), nullable=False),
        sa.Column("labels", sa.Text(), nullable=False),
        sa.Column("input_tokens", sa.BigInteger(), nullable=False),
        sa.Column("cached_input_tokens", sa.BigInteger(), nullable=False),
        sa.Column("cache_write_tokens", sa.BigInteger(), nullable=False),
        sa.Column("output_tokens", sa.BigInteger(), nullable=False),
        sa.Column("reasoning_tokens", sa.BigInteger(), nullable=False),
        sa.Column("cost_micros", sa.BigInteger()),
        sa.Column("estimated", sa.Boolean(), nullable=False),
        sa.Column("attempt_count", sa.Integer(), nullable=False),
        sa.Column("first_byte_us", sa.BigInteger()),
        sa.Column("document", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("organization_id", "start_us", "id", name="pk_usage_records"),
    )
    op.create_index("ix_usage_records_id", "usage_records", ["id"])
    op.create_index(
        "ix_usage_records_organization_id_key_id_start_us", "usage_records", ["organization_id", "key_id", "start_us"]
    )
    op.create_index("ix_usage_records_request_id", "usage_records", ["request_id"])
    op.create_index("ix_usage_records_start_us", "usage_records", ["start_us"])
    op.create_table(
        "usage_attempts",
        sa.Column("organization_id", sa.String(40), nullable=False),
        sa.Column("start_us", sa.BigInteger(), nullable=False),
        sa.Column("record_id", sa.String(40), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("provider", sa.String(63), nullable=False),
        sa.Column("upstream_model", sa.String(256), nullable=False),
        sa.Column("upstream_request_id", sa.String(256), nullable=False),
        sa.Column("outcome", sa.Integer(), nullable=False),
        sa.Column("reason", sa.Integer(), nullable=False),
        sa.Column("upstream_status", sa.Integer(), nullable=False),
        sa.Column("input_tokens", sa.BigInteger(), nullable=False),
        sa.Column("output_tokens", sa.BigInteger(), nullable=False),
        sa.Column("estimated", sa.Boolean(), nullable=False),
        sa.Column("cost_micros", sa.BigInteger()),
        sa.PrimaryKeyConstraint("organization_id", "start_us", "record_id", "number", name="pk_usage_attempts"),
    )
    op.create_index("ix_usage_attempts_start_us", "usage_attempts", ["start_us"])
    _create_sums("usage_hours", "hour")
    _create_sums("usage_days", "day")
    op.create_table(
        "price_lists",
        sa.Column("name", sa.String(256), nullable=False),
        sa.Column("document", sa.JSON(), nullable=False),
        sa.Column("request_id", sa.String(128), nullable=False),
        sa.Column("create_time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("update_time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_price_lists"),
    )


def _create_sums(name: str, interval: str) -> None:
    op.create_table(
        name,
        sa.Column("organization_id", sa.String(40), nullable=False),
        sa.Column(interval, sa.BigInteger(), nullable=False),
        sa.Column("key_id", sa.String(40), nullable=False),
        sa.Column("member_id", sa.String(40), nullable=False),
        sa.Column("team_id", sa.String(40), nullable=False),
        sa.Column("model", sa.String(256), nullable=False),
        sa.Column("provider_label", sa.String(100), nullable=False),
        sa.Column("surface", sa.Integer(), nullable=False),
        sa.Column("outcome", sa.Integer(), nullable=False),
        sa.Column("reason", sa.Integer(), nullable=False),
        sa.Column("client_kind", sa.String(64), nullable=False),
        sa.Column("requests", sa.BigInteger(), nullable=False),
        sa.Column("succeeded", sa.BigInteger(), nullable=False),
        sa.Column("refused", sa.BigInteger(), nullable=False),
        sa.Column("failed", sa.BigInteger(), nullable=False),
        sa.Column("charged", sa.BigInteger(), nullable=False),
        sa.Column("input_tokens", sa.BigInteger(), nullable=False),
        sa.Column("cached_input_tokens", sa.BigInteger(), nullable=False),
        sa.Column("cache_write_tokens", sa.BigInteger(), nullable=False),
        sa.Column("output_tokens", sa.BigInteger(), nullable=False),
        sa.Column("reasoning_tokens", sa.BigInteger(), nullable=False),
        sa.Column("cost_micros", sa.BigInteger(), nullable=False),
        sa.Column("unpriced", sa.BigInteger(), nullable=False),
        sa.Column("estimated", sa.BigInteger(), nullable=False),
        sa.Column("first_byte_us", sa.BigInteger(), nullable=False),
        sa.Column("first_bytes", sa.BigInteger(), nullable=False),
        sa.Column("total_us", sa.BigInteger(), nullable=False),
        sa.Column("ended", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("organization_id", interval, *_DIMENSIONS, name=f"pk_{name}"),
    )
    op.create_index(f"ix_{name}_{interval}", name, [interval])
