"""Why a server cannot start, told in one sentence to the person who starts it."""

from __future__ import annotations


class StartupError(Exception):
    """The server cannot start. The message is one line: what is wrong, and what to do about it."""
