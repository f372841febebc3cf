"""Limits, what counts against them, and reservations: nothing is spent that was not held before."""
