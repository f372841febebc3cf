"""Why a server cannot start, told in one sentence to the person who starts it."""

from __future__ import annotations

from collections.abc import Sequence


class StartupError(Exception):
    """The server cannot start. The message is one line: what is wrong, and what to do about it."""


class ConfigurationError(StartupError):
    """The settings cannot be used. `mistakes` are all that were found, a line each."""

    def __init__(self, mistakes: Sequence[str]) -> None:
        super().__init__("The configuration cannot be used: " + "; ".join(mistakes) + ".")
        self.mistakes = tuple(mistakes)
