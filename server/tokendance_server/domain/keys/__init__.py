"""API keys: what they are, how they are made, verified, changed and ended."""
