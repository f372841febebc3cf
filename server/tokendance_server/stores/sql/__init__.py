"""The stores in SQL, on SQLAlchemy Core: SQLite for one node, and written to carry over to PostgreSQL."""
