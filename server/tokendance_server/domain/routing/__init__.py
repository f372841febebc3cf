"""Which way a call takes to an upstream: pure rules about health, choice, retries and caps. No I/O, no tasks."""
