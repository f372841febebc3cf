"""Public JSON APIs, one each, pure: JSON in, canonical messages out, and back. No I/O, no clock, no RPC."""
