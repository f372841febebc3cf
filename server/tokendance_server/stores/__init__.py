"""Where things are kept: in memory and in SQL, each satisfying the Protocols of the domain."""
