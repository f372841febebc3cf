"""What is spent and held of one limit, by window; kept so that the window that runs is told without adding up."""

from __future__ import annotations

from tokendance_server.domain.quota.claims import CONCURRENT, Row
from tokendance_server.domain.quota.windows import BUCKETS, MINUTE

# Calls that began in the window before may still settle; what comes later is told by usage alone.
_WINDOWS_KEPT = 2


def slides(row: Row) -> bool:
    """Tell whether a limit counts over any 60 seconds."""
    return row.rule.window == MINUTE and row.rule.metric != CONCURRENT


class Book:
    """`spent` and `held` are those of `window`, which `turn` sets; of a minute, those of all buckets that it covers.

    `cells` has both of each window, or of each bucket of a minute.
    """

    __slots__ = ("_kept", "_slides", "cells", "held", "spent", "window")

    def __init__(self, row: Row) -> None:
        self._slides = slides(row)
        self._kept = BUCKETS if self._slides else _WINDOWS_KEPT
        self.cells: dict[int, list[int]] = {}
        self.window = 0
        self.spent = 0
        self.held = 0

    def turn(self, window: int) -> None:
        """Let another window be the one that runs."""
        self.window = window
        cells = [cell for one, cell in self.cells.items() if self._counts(one)]
        self.spent = sum(cell[0] for cell in cells)
        self.held = sum(cell[1] for cell in cells)

    def add(self, window: int, spent: int, held: int) -> None:
        """Add to what is spent and held in a window, whichever runs; either may be below 0."""
        cell = self.cells.get(window)
        if cell is None:
            newest = max(self.cells, default=window)
            if window <= newest - self._kept:
                return
            for old in [one for one in self.cells if one <= window - self._kept]:
                del self.cells[old]
            cell = self.cells[window] = [0, 0]
        cell[0] += spent
        cell[1] += held
        if window == self.window or self._counts(window):
            self.spent += spent
            self.held += held

    def of(self, window: int) -> tuple[int, int]:
        """Return what is spent and held in a window, whichever runs; of a minute only the one that runs is told."""
        if window == self.window:
            return self.spent, self.held
        if self._slides:
            self.turn(window)
            return self.spent, self.held
        cell = self.cells.get(window)
        return (cell[0], cell[1]) if cell is not None else (0, 0)

    def _counts(self, window: int) -> bool:
        if not self._slides:
            return window == self.window
        return self.window - BUCKETS < window <= self.window
