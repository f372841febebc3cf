"""Handlers: read the body, decode it in its dialect, make one RPC, encode the answer. No rule lives here."""
