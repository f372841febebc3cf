"""What a call is charged: integer arithmetic over the prices that held when it was admitted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from tokendance_server.domain.usage.counts import Counts

MILLION = 1_000_000

INPUT = "input"
CACHED_INPUT = "cached_input"
CACHE_WRITE = "cache_write"
OUTPUT = "output"
REASONING = "reasoning"
AUDIO_INPUT = "audio_input"
AUDIO_OUTPUT = "audio_output"
IMAGE = "image"
CLASSES = (INPUT, CACHED_INPUT, CACHE_WRITE, OUTPUT, REASONING, AUDIO_INPUT, AUDIO_OUTPUT, IMAGE)
"""What has a price of its own. A class without one costs what `input`, or `output`, costs."""

_PROMPT_CLASSES = (INPUT, CACHED_INPUT, CACHE_WRITE, AUDIO_INPUT, IMAGE)
_ANSWER_CLASSES = (OUTPUT, REASONING, AUDIO_OUTPUT)
DEFAULT_TIER = ""


@dataclass(frozen=True, slots=True)
class Step:
    """One price: micro-USD per million tokens, 0 or more, for prompts of at least `from_prompt_tokens`."""

    per_million: int
    from_prompt_tokens: int = 0


class Tariff:
    """The prices of one model at one moment: by service tier and class, steps from the lowest up. Immutable.

    It is taken when a call is admitted and stays the call's own, whatever becomes of the prices meanwhile.
    """

    __slots__ = ("_tiers",)

    def __init__(self, tiers: Mapping[str, Mapping[str, Sequence[Step]]]) -> None:
        self._tiers = {
            tier: {name: sorted(steps, key=lambda step: step.from_prompt_tokens) for name, steps in classes.items()}
            for tier, classes in tiers.items()
        }

    def cost(self, counts: Counts, tier: str = DEFAULT_TIER) -> int | None:
        """Return the charge of one attempt in micro-USD, rounded up once; None where a class used has no price."""
        prompt = counts.input_tokens
        total = 0
        for name, units in _units(counts):
            price = self._price(name, prompt, tier)
            if price is None:
                return None
            total += units * price
        return -(-total // MILLION)

    def dearest(self, input_tokens: int, output_tokens: int, tier: str = DEFAULT_TIER) -> int | None:
        """Return the most that a call of at most so many tokens can cost, in micro-USD; None where it has no price.

        Every class, and every step up to the prompt's size, may apply; of the tiers, the one asked for and the default.
        """
        tiers = {DEFAULT_TIER, tier}
        dear_input = self._most(_PROMPT_CLASSES, input_tokens, tiers)
        dear_output = self._most(_ANSWER_CLASSES, input_tokens, tiers)
        if (dear_input is None and input_tokens) or (dear_output is None and output_tokens):
            return None
        return -(-(input_tokens * (dear_input or 0) + output_tokens * (dear_output or 0)) // MILLION)

    def _price(self, name: str, prompt: int, tier: str) -> int | None:
        general = INPUT if name in _PROMPT_CLASSES else OUTPUT
        for classes in (self._tiers.get(tier), self._tiers.get(DEFAULT_TIER)):
            if classes is None:
                continue
            for wanted in (name, general):
                for step in reversed(classes.get(wanted, ())):
                    if step.from_prompt_tokens <= prompt:
                        return step.per_million
        return None

    def _most(self, names: Iterable[str], prompt: int, tiers: Iterable[str]) -> int | None:
        return max(
            (
                step.per_million
                for tier in tiers
                for name in names
                for step in self._tiers.get(tier, {}).get(name, ())
                if step.from_prompt_tokens <= prompt
            ),
            default=None,
        )


def _units(counts: Counts) -> list[tuple[str, int]]:
    """Split counts into classes that do not overlap; parts that claim more than the whole are cut."""
    found = []
    for general, whole, parts in (
        (
            INPUT,
            counts.input_tokens,
            (
                (CACHED_INPUT, counts.cached_input_tokens),
                (CACHE_WRITE, counts.cache_write_tokens),
                (AUDIO_INPUT, counts.audio_input_tokens),
                (IMAGE, counts.image_input_tokens),
            ),
        ),
        (
            OUTPUT,
            counts.output_tokens,
            ((REASONING, counts.reasoning_tokens), (AUDIO_OUTPUT, counts.audio_output_tokens)),
        ),
    ):
        rest = whole
        for name, claimed in parts:
            units = min(claimed, rest)
            rest -= units
            found.append((name, units))
        found.append((general, rest))
    return [one for one in found if one[1]]
