"""How late the event loop runs what is due: the one figure that says whether this process keeps up."""

from __future__ import annotations

import asyncio
import math
from collections import deque

_EVERY_S = 0.05
_KEPT_S = 60
# One late moment, such as a collection of garbage, is not yet too much; half a second of them is.
_SMOOTHED_OVER_S = 0.5


class LoopLag:
    """Samples the event loop twenty times a second. `high` tells that the smoothed lag is above `threshold_s`."""

    def __init__(self, threshold_s: float) -> None:
        self._threshold_s = threshold_s
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0
        self._late: deque[float] = deque(maxlen=round(_KEPT_S / _EVERY_S))
        self.seconds = 0.0
        self.high = False

    def worst_s(self) -> float:
        """Return the 99th percentile of the last minute, in seconds; 0 before the first sample."""
        late = sorted(self._late)
        return late[len(late) * 99 // 100] if late else 0.0

    def start(self) -> None:
        """Begin to sample the running event loop."""
        self._arm(asyncio.get_running_loop())

    def stop(self) -> None:
        """Sample no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.seconds, self.high = 0.0, False

    def _arm(self, loop: asyncio.AbstractEventLoop) -> None:
        self._due = loop.time() + _EVERY_S
        self._timer = loop.call_at(self._due, self._sample, loop)

    def _sample(self, loop: asyncio.AbstractEventLoop) -> None:
        late = max(loop.time() - self._due, 0.0)
        self._late.append(late)
        # By the time that a sample stands for: a blocked loop is seldom sampled, and would count for little.
        weight = 1 - math.exp(-(_EVERY_S + late) / _SMOOTHED_OVER_S)
        self.seconds += (late - self.seconds) * weight
        self.high = self.seconds > self._threshold_s
        self._arm(loop)
