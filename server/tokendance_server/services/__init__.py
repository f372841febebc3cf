"""The RPC edge: what every call passes through, and one servicer for each service."""
