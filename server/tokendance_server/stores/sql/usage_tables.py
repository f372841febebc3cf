"""The tables of usage: rows of requests and attempts, and their sums by hour and by day.

They lead with organization and time, and refer to no other table, so that they can be partitioned by time. Times are
microseconds since 1970: intervals are whole numbers of them, and batches are written without converting any.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Index,
    Integer,
    LargeBinary,
    PrimaryKeyConstraint,
    Table,
    UniqueConstraint,
)
from sqlalchemy import Text as LongText

from tokendance_server.domain.usage.store import MEASURES
from tokendance_server.stores.sql.tables import Instant, Text, metadata

__all__ = ["DIMENSIONS", "reservations", "usage_attempts", "usage_days", "usage_hours", "usage_records"]

usage_records = Table(
    "usage_records",
    metadata,
    Column("organization_id", Text(40), nullable=False),
    Column("start_us", BigInteger, nullable=False),
    Column("id", Text(40), nullable=False),
    Column("request_id", Text(200), nullable=False),
    Column("node", Text(40), nullable=False),
    Column("end_us", BigInteger),
    Column("key_id", Text(40), nullable=False),
    Column("member_id", Text(40), nullable=False),
    Column("team_id", Text(40), nullable=False),
    Column("model", Text(256), nullable=False),
    Column("provider_label", Text(100), nullable=False),
    Column("surface", Integer, nullable=False),
    Column("outcome", Integer, nullable=False),
    Column("reason", Integer, nullable=False),
    Column("client_kind", Text(64), nullable=False),
    Column("user_name", Text(512), nullable=False),
    Column("labels", LongText, nullable=False),
    Column("input_tokens", BigInteger, nullable=False),
    Column("cached_input_tokens", BigInteger, nullable=False),
    Column("cache_write_tokens", BigInteger, nullable=False),
    Column("output_tokens", BigInteger, nullable=False),
    Column("reasoning_tokens", BigInteger, nullable=False),
    Column("cost_micros", BigInteger),
    Column("estimated", Boolean, nullable=False),
    Column("attempt_count", Integer, nullable=False),
    Column("first_byte_us", BigInteger),
    # The whole entry as JSON: what is only shown needs no column.
    Column("document", LongText, nullable=False),
    PrimaryKeyConstraint("organization_id", "start_us", "id", name="pk_usage_records"),
    Index(None, "id"),
    Index(None, "request_id"),
    Index(None, "organization_id", "key_id", "start_us"),
    Index(None, "start_us"),
)

usage_attempts = Table(
    "usage_attempts",
    metadata,
    Column("organization_id", Text(40), nullable=False),
    Column("start_us", BigInteger, nullable=False),
    Column("record_id", Text(40), nullable=False),
    Column("number", Integer, nullable=False),
    Column("provider", Text(63), nullable=False),
    Column("upstream_model", Text(256), nullable=False),
    Column("upstream_request_id", Text(256), nullable=False),
    Column("outcome", Integer, nullable=False),
    Column("reason", Integer, nullable=False),
    Column("upstream_status", Integer, nullable=False),
    Column("input_tokens", BigInteger, nullable=False),
    Column("output_tokens", BigInteger, nullable=False),
    Column("estimated", Boolean, nullable=False),
    Column("cost_micros", BigInteger),
    PrimaryKeyConstraint("organization_id", "start_us", "record_id", "number", name="pk_usage_attempts"),
    Index(None, "start_us"),
)

reservations = Table(
    "reservations",
    metadata,
    Column("organization_id", Text(40), nullable=False),
    Column("id", Text(40), nullable=False),
    Column("record_id", Text(40), nullable=False),
    Column("maker", Text(200), nullable=False),
    # Null where a repeat is to reserve anew.
    Column("request_key", Text(128)),
    Column("fingerprint", LargeBinary(32), nullable=False),
    Column("state", Text(20), nullable=False),
    Column("version", Integer, nullable=False),
    Column("create_time", Instant, nullable=False),
    Column("expire_time", Instant, nullable=False),
    # What it is for, what it holds of which limits, and what was charged, as JSON.
    Column("document", LongText, nullable=False),
    PrimaryKeyConstraint("organization_id", "id", name="pk_reservations"),
    UniqueConstraint("maker", "request_key"),
    Index(None, "organization_id", "expire_time"),
    Index(None, "expire_time"),
)

DIMENSIONS = (
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
"""What sums are kept by, besides organization and time."""


def _sums(name: str, interval: str) -> Table:
    return Table(
        name,
        metadata,
        Column("organization_id", Text(40), nullable=False),
        # The number of the interval since 1970.
        Column(interval, BigInteger, nullable=False),
        Column("key_id", Text(40), nullable=False),
        Column("member_id", Text(40), nullable=False),
        Column("team_id", Text(40), nullable=False),
        Column("model", Text(256), nullable=False),
        Column("provider_label", Text(100), nullable=False),
        Column("surface", Integer, nullable=False),
        Column("outcome", Integer, nullable=False),
        Column("reason", Integer, nullable=False),
        Column("client_kind", Text(64), nullable=False),
        *(Column(measure, BigInteger, nullable=False) for measure in MEASURES),
        PrimaryKeyConstraint("organization_id", interval, *DIMENSIONS, name=f"pk_{name}"),
        Index(None, interval),
    )


usage_hours = _sums("usage_hours", "hour")
usage_days = _sums("usage_days", "day")
