"""The tables of the status: what nodes counted, the states of now, days of history, incidents, and nodes themselves."""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Date,
    Index,
    Integer,
    LargeBinary,
    PrimaryKeyConstraint,
    Table,
    UniqueConstraint,
)

from tokendance_server.stores.sql.tables import Instant, Text, metadata

__all__ = ["incidents", "maintenances", "node_reports", "status_days", "status_minutes", "status_states"]

# A row for each minute in which a run of a node lived; it is empty where nobody called.
status_minutes = Table(
    "status_minutes",
    metadata,
    Column("minute", Instant, nullable=False),
    Column("run_id", Text(40), nullable=False),
    Column("counts", JSON, nullable=False),
    PrimaryKeyConstraint("minute", "run_id", name="pk_status_minutes"),
)

# Since when each model has its state. The empty name is the whole; `-` tells up to when the history is judged.
status_states = Table(
    "status_states",
    metadata,
    Column("model", Text(256), primary_key=True),
    Column("state", Text(20), nullable=False),
    Column("start_time", Instant, nullable=False),
)

status_days = Table(
    "status_days",
    metadata,
    Column("day", Date, nullable=False),
    Column("model", Text(256), nullable=False),
    Column("worst", Text(20), nullable=False),
    Column("degraded_s", Integer, nullable=False),
    Column("outage_s", Integer, nullable=False),
    Column("maintenance_s", Integer, nullable=False),
    Column("unknown_s", Integer, nullable=False),
    Column("counts", JSON, nullable=False),
    PrimaryKeyConstraint("day", "model", name="pk_status_days"),
)

incidents = Table(
    "incidents",
    metadata,
    Column("id", Text(40), primary_key=True),
    Column("title", Text(200), nullable=False),
    Column("state", Text(20), nullable=False),
    Column("phase", Text(20), nullable=False),
    Column("models", JSON, nullable=False),
    Column("updates", JSON, nullable=False),
    Column("start_time", Instant, nullable=False),
    Column("resolve_time", Instant),
    Column("create_time", Instant, nullable=False),
    Column("version", Integer, nullable=False),
    Column("create_request_id", Text(128)),
    Column("fingerprint", LargeBinary(32), nullable=False),
    UniqueConstraint("create_request_id"),
    Index(None, "resolve_time"),
)

maintenances = Table(
    "maintenances",
    metadata,
    Column("id", Text(40), primary_key=True),
    Column("title", Text(200), nullable=False),
    Column("description", Text(4000), nullable=False),
    Column("models", JSON, nullable=False),
    Column("start_time", Instant, nullable=False),
    Column("end_time", Instant, nullable=False),
    Column("cancelled", Boolean, nullable=False),
    Column("create_time", Instant, nullable=False),
    Column("version", Integer, nullable=False),
    Column("create_request_id", Text(128)),
    Column("fingerprint", LargeBinary(32), nullable=False),
    UniqueConstraint("create_request_id"),
    Index(None, "start_time", "id"),
    Index(None, "end_time"),
)

# What each running node said of itself last; a node that stops well takes its row away.
node_reports = Table(
    "node_reports",
    metadata,
    Column("run_id", Text(40), primary_key=True),
    Column("start_time", Instant, nullable=False),
    Column("report_time", Instant, nullable=False),
    Column("config_version", BigInteger, nullable=False),
    Column("document", JSON, nullable=False),
)
