"""What a checkup examines, what each of its checks finds, and what it costs."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


class State(StrEnum):
    """How a check went."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Subject:
    """What is examined: a credential as it stands at its `source`, and a base URL without a slash at its end.

    `model` is empty where none was chosen. `timeout_s` is the longest silence.
    """

    base_url: str
    credential: str = field(repr=False)
    source: str
    model: str = ""
    timeout_s: float = 30

    @property
    def key(self) -> str:
        """The credential without white space around it."""
        return self.credential.strip()


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found: sentences, and what to do.

    `code` is the stable code of a refusal; `exit_code` is that of the command where this failed first.
    """

    check: str
    state: State
    told: str
    do: tuple[str, ...] = ()
    request_id: str | None = None
    exit_code: int = 0
    code: str = ""


@dataclass(slots=True)
class Spent:
    """What the model calls of a checkup cost, in requests and in tokens as the gateway counts them."""

    requests: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
