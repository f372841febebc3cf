"""The tables of the audit trail: its events and their personal data, its chains' ends, and how far its sink is."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, Integer, LargeBinary, Table
from sqlalchemy import Text as LongText

from tokendance_server.stores.sql.tables import Instant, Text, metadata

audit_heads = Table(
    "audit_heads",
    metadata,
    # Empty for the platform's own chain.
    Column("organization_id", Text(40), primary_key=True),
    Column("sequence", BigInteger, nullable=False),
    Column("digest", LargeBinary(32), nullable=False),
)

audit_events = Table(
    "audit_events",
    metadata,
    # No reference, here as below: the trail outlives what it tells of.
    Column("organization_id", Text(40), primary_key=True),
    Column("sequence", BigInteger, primary_key=True, autoincrement=False),
    Column("id", Text(40), nullable=False),
    Column("time", Instant, nullable=False),
    Column("action", Text(64), nullable=False),
    Column("resource", Text(400), nullable=False),
    Column("outcome", Integer, nullable=False),
    Column("code", Text(64), nullable=False),
    Column("actor_kind", Integer, nullable=False),
    Column("actor", Text(400), nullable=False),
    Column("request_id", Text(128), nullable=False),
    Column("source", Integer, nullable=False),
    # JSON as text: the digest is of these very characters.
    Column("before", LongText, nullable=False),
    Column("after", LongText, nullable=False),
    Column("reason", LongText, nullable=False),
    Column("personal_digests", LongText, nullable=False),
    Column("previous", LargeBinary(32), nullable=False),
    Column("digest", LargeBinary(32), nullable=False),
    Index(None, "time", "organization_id", "sequence"),
    Index(None, "organization_id", "time", "sequence"),
)

audit_personal = Table(
    "audit_personal",
    metadata,
    Column("organization_id", Text(40), primary_key=True),
    Column("sequence", BigInteger, primary_key=True, autoincrement=False),
    Column("part", Text(20), primary_key=True),
    Column("subject", Text(400), nullable=False),
    Column("salt", LargeBinary(16), nullable=False),
    Column("document", LongText, nullable=False),
    Index(None, "subject"),
)

audit_cursors = Table(
    "audit_cursors",
    metadata,
    # No reference, as above.
    Column("organization_id", Text(40), primary_key=True),
    # The last event that the sink has.
    Column("sequence", BigInteger, nullable=False),
    # The last head that was signed, and when.
    Column("head_sequence", BigInteger, nullable=False),
    Column("head_time", Instant),
)

audit_signed_heads = Table(
    "audit_signed_heads",
    metadata,
    # No reference, as above.
    Column("organization_id", Text(40), primary_key=True),
    Column("sequence", BigInteger, primary_key=True, autoincrement=False),
    Column("digest", LargeBinary(32), nullable=False),
    Column("time", Instant, nullable=False),
    Column("signature", LargeBinary(64), nullable=False),
    Column("signing_key_id", Text(40), nullable=False),
)
