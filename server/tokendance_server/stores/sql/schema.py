"""The whole schema: `metadata` has every table once all modules of tables have been read, which this one sees to."""

from __future__ import annotations

from tokendance_server.stores.sql import audit_tables, session_tables, status_tables, usage_tables, webhook_tables
from tokendance_server.stores.sql.tables import metadata

MODULES = (audit_tables, session_tables, status_tables, usage_tables, webhook_tables)
"""Those that add tables to those of `tables`."""

__all__ = ["MODULES", "metadata"]
