"""Reads a model name such as `sim:tokens=200:rate=50` or `fault:cut:n=3` into a plan; does no I/O."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

PERSONAS: Mapping[str, str] = MappingProxyType(
    {
        "sim": "Answers a fixed short text of 9 tokens.",
        "sim-echo": "Repeats the text of the last user message.",
        "sim-tools": "Calls the first tool of the request (or the one it must call), then answers in words.",
        "sim-tools-parallel": "Calls two tools at once (the first one twice if there is only one).",
        "sim-agent": "Makes the calls that lines `CALL name {json}` of the last user message tell, then says `done`.",
        "sim-json": "Answers a JSON document that satisfies the schema of the request.",
        "sim-embed": "Is meant for embeddings, which every model here can do.",
    }
)

GENERAL_OPTIONS = "tokens=auto rate=0 burst=1 delay=0 first=0 dims=8 base=auto tag=none"
"""Options every model name may carry.

tokens: how many tokens the text has; rate: tokens a second (0 = at once); burst: tokens that go out together, in
one write, at the same rate; delay: seconds before the first byte; first: seconds between the head and the first
byte of the body; dims: numbers in an embedding; base: the persona under a fault; tag: any word, to tell tests
apart in the log and in counted faults.
"""


class ModelNameError(ValueError):
    """A model name this simulator does not know; `status` is the HTTP status to answer with (400 or 404)."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class Plan:
    """What a model name asks for: a persona, perhaps a fault, and all options with defaults filled in."""

    model: str
    base: str
    fault: str
    options: Mapping[str, str]

    def number(self, name: str) -> float:
        """The option as a finite number of at least 0."""
        return float(self.options[name])

    def count(self, name: str) -> int:
        """The option as a whole number of at least 0."""
        return int(self.number(name))

    def word(self, name: str) -> str:
        """The option as text."""
        return self.options[name]

    @property
    def gap_s(self) -> float:
        """Seconds between two tokens of a stream, 0 for none."""
        if self.fault == "slow-tokens":
            return self.number("gap")
        rate = self.number("rate")
        return 1.0 / rate if rate else 0.0


def parse_model(model: str, fault_options: Mapping[str, str]) -> Plan:
    """Reads a model name.

    `fault_options` maps each fault's name to its options, written as `n=3 form=first|second`: the default is
    the value, or the first of several choices. Raises ModelNameError for an unknown name (404) and for an
    unknown option or choice (400), so that a typing error in a test cannot pass for a working fault.
    """
    head, *words = model.split(":")
    fault, spec = "", GENERAL_OPTIONS
    if head == "fault":
        fault = words.pop(0) if words else ""
        if fault not in fault_options:
            raise ModelNameError(f"There is no fault named {fault!r}; --list-faults shows them.", 404)
        spec = f"{spec} {fault_options[fault]}"
    elif head not in PERSONAS:
        raise ModelNameError(f"The model `{model}` does not exist.", 404)
    options = _merge(words, spec)
    base = head if not fault else options["base"]
    if base == "auto":
        base = "sim-tools" if fault == "tool-quirks" else "sim"
    if base not in PERSONAS:
        raise ModelNameError(f"Option base={base} names no model of this simulator.")
    return Plan(model, base, fault, MappingProxyType(options))


def _merge(words: list[str], spec: str) -> dict[str, str]:
    choices = {name: values.split("|") for name, _, values in (item.partition("=") for item in spec.split())}
    options = {name: values[0] for name, values in choices.items()}
    for word in words:
        name, separator, value = word.partition("=")
        if not separator or name not in choices:
            raise ModelNameError(f"Option {word!r} is not known here; known are {', '.join(sorted(choices))}.")
        allowed = choices[name]
        if len(allowed) > 1 and value not in allowed:
            raise ModelNameError(f"Option {name} must be one of {', '.join(allowed)}.")
        numeric = name == "tokens" or (len(allowed) == 1 and _is_number(allowed[0]))
        if numeric and not _is_number(value):
            raise ModelNameError(f"Option {name}={value} must be a number of at least 0.")
        options[name] = value
    return options


def _is_number(text: str) -> bool:
    try:
        value = float(text)
    except ValueError:
        return False
    return value >= 0 and math.isfinite(value)
