"""Sign-ins that failed, by where they came from: who fails too often waits before the next credential is looked up."""

from __future__ import annotations

import math
from collections import OrderedDict

from tokendance_server.domain.clock import Clock
from tokendance_server.domain.usage.refusals import origin_of

MOST_ORIGINS = 10_000
_MINUTE_S = 60.0


class FailedSignIns:
    """Lets `per_minute` of one origin fail at once and as many a minute from then on; 0 lets all.

    Origins are those of `origin_of`; of at most `origins` something is known, and the one that failed least recently is
    forgotten first. Calls that run at the same time are counted as they fail, so that many who come at once with good
    credentials never wait for each other.
    """

    def __init__(self, per_minute: int, clock: Clock, *, origins: int = MOST_ORIGINS) -> None:
        self._each_s = _MINUTE_S / per_minute if per_minute else 0.0
        self._clock = clock
        self._most = origins
        # Until when the failures so far are paid off, one every `_each_s`.
        self._paid_off: OrderedDict[str, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._paid_off)

    def wait_s(self, address: str) -> int:
        """Return in how many whole seconds one more may be tried from an address; 0: now."""
        if not self._paid_off or not address:
            return 0
        paid_off = self._paid_off.get(origin_of(address), 0.0)
        # A little less than the whole, because times do not add up to the last bit.
        over = paid_off + self._each_s - self._clock.monotonic() - _MINUTE_S
        return max(math.ceil(over), 1) if over > self._each_s / 1000 else 0

    def note(self, address: str) -> None:
        """Take note that a sign-in from an address failed; one without an address came over a socket of the node."""
        if not self._each_s or not address:
            return
        origin, now = origin_of(address), self._clock.monotonic()
        self._paid_off[origin] = max(self._paid_off.get(origin, 0.0), now) + self._each_s
        self._paid_off.move_to_end(origin)
        if len(self._paid_off) > self._most:
            self._paid_off.popitem(last=False)
