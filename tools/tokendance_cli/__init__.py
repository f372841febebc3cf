"""The `tokendance` command: serves a node, governs its keys, and calls models as the holder of a key."""
