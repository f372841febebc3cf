"""The nodes that share a database, as each of them says of itself."""
