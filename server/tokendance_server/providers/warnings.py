"""What was left out of a request, told in a bounded number of warnings however much there is."""

from __future__ import annotations

from collections.abc import Collection

from tokendance.gateway.v1 import completion_pb2 as pb

MOST_WARNINGS = 64
"""More than anybody reads; without a bound an answer could outgrow what its caller takes."""
MOST_FIELD_CHARACTERS = 256


class Warnings:
    """Gathers warnings in order: keeps the first, and counts the others."""

    def __init__(self) -> None:
        self._kept: list[pb.Warning] = []
        self._more = 0

    @property
    def full(self) -> bool:
        """Whether what is told from now on is counted only: then its field need not be looked up."""
        return len(self._kept) >= MOST_WARNINGS

    def add(self, field: str, why: str) -> None:
        """Tell of one field."""
        if len(self._kept) < MOST_WARNINGS:
            self._kept.append(pb.Warning(field=field[:MOST_FIELD_CHARACTERS], why=why))
        else:
            self._more += 1

    def add_all(self, names: Collection[str], why: str, prefix: str = "") -> None:
        """Tell the same of many fields; those that find no place are counted without being looked at."""
        free = MOST_WARNINGS - len(self._kept)
        for _, name in zip(range(free), names, strict=False):
            self.add(prefix + name, why)
        self._more += max(len(names) - free, 0)

    def told(self) -> list[pb.Warning]:
        """Return at most MOST_WARNINGS; where there were more, the last says how many."""
        if not self._more:
            return self._kept
        last = pb.Warning(field="warnings", why=f"{self._more + 1} more fields were left out or changed.")
        return [*self._kept[:-1], last]
