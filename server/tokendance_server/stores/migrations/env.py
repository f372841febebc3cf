"""Run by Alembic for each command; only ever with a connection that our own code opened."""

from alembic import context

from tokendance_server.stores.migrations import VERSION_TABLE
from tokendance_server.stores.sql.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table=VERSION_TABLE,
    # The transaction is the caller's, so that a migration that fails leaves nothing behind.
    transactional_ddl=False,
)
context.run_migrations()
