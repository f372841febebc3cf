"""The history of the schema. A migration is never edited once released; each has the next number."""

HEAD = "0001"
"""The schema that this version of the gateway reads and writes."""
VERSION_TABLE = "schema_version"
