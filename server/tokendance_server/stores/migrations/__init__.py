"""The history of the schema. A migration is never edited once released; each has the next number.

A migration only adds what nodes of the version before do not mind: they may still run on it. What they need is taken
away one release later, together with a higher OLDEST_CODE_VERSION. There is no way backward but a copy.
"""

HEAD = "0018"
"""The schema that this version of the gateway reads and writes."""
OLDEST_CODE_VERSION = "0.1.0"
"""The oldest version of the gateway that may serve on that schema; it is kept in the database beside it."""
VERSION_TABLE = "schema_version"
