"""What the stores raise when what they keep cannot be reached: never a driver's own error."""

from __future__ import annotations


class StoreUnavailableError(Exception):
    """The database did not do what it was asked. Callers see internal_error; the cause goes to the log alone."""


class ContentRefusedError(StoreUnavailableError):
    """The database works, and takes a value of what it was asked to write never."""
