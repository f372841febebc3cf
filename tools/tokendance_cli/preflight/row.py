"""What an inspection of a configuration finds."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    """How a part of a node stands."""

    ON = "on"
    OFF = "off"
    LIMITED = "limited"
    """Works, for one node or for trying out."""
    INSECURE = "insecure"
    """Works, and others could read, reach or change what they should not."""
    BROKEN = "broken"
    """The node would start, and this part of it would not work."""
    PROBLEM = "problem"
    """The node would not start."""


@dataclass(frozen=True, slots=True)
class Row:
    """One part of a node: what it is set to, and what to do about it. Holds no secret."""

    part: str
    state: State
    told: str
    do: str = ""
