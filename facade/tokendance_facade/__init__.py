"""The REST facade: public JSON dialects over the gateway's own RPCs. Knows no store, no provider and no server code."""
