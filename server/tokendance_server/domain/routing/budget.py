"""The budget of retries: how many calls to upstreams may be made besides the first of each request."""

from __future__ import annotations


class RetryBudget:
    """At most `share` of the requests of the last `window_s` seconds, and in any case the first `least` of them.

    The window slides in two halves: what is older than one window is forgotten.
    """

    __slots__ = ("_calls", "_calls_before", "_end", "_least", "_retries", "_retries_before", "_share", "_window_s",
                 "refused")  # fmt: skip

    def __init__(self, share: float = 0.2, least: int = 10, window_s: float = 10.0) -> None:
        self._share = share
        self._least = least
        self._window_s = window_s
        self._calls = self._calls_before = self._retries = self._retries_before = 0
        self._end = 0.0
        self.refused = 0

    def called(self, now: float) -> None:
        """Count a request."""
        if now >= self._end:
            self._turn(now)
        self._calls += 1

    def take(self, now: float) -> bool:
        """Take one retry out of it; False where nothing is left."""
        if now >= self._end:
            self._turn(now)
        # How much of the window before still lies within the last `window_s`.
        share = (self._end - now) / self._window_s
        calls = self._calls + self._calls_before * share
        retries = self._retries + self._retries_before * share
        if retries + 1 > max(self._share * calls, self._least):
            self.refused += 1
            return False
        self._retries += 1
        return True

    def _turn(self, now: float) -> None:
        follows = now < self._end + self._window_s
        self._calls_before = self._calls if follows else 0
        self._retries_before = self._retries if follows else 0
        self._calls = self._retries = 0
        self._end = self._end + self._window_s if follows else now + self._window_s
