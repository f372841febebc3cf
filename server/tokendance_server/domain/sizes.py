"""How large a model call may become, and what that can cost at most: what is held of limits before it begins."""

from __future__ import annotations

from typing import NamedTuple

from tokendance.gateway.v1 import completion_pb2 as pb
from tokendance_server.domain.catalogue.models import Model
from tokendance_server.domain.prices.tariff import MILLION, Tariff
from tokendance_server.domain.usage.estimates import Estimates, PromptEstimate

LEAST_ANSWER_TOKENS = 16
"""A limit that leaves less of an answer refuses the call."""
BLOCK_TOKENS = 512
"""A stream that outgrows what it holds asks for so many tokens more at a time, or for the usual answer's size."""
UNSTATED_ANSWER_TOKENS = 8192
"""What an answer in one message is capped at where limits count it, and neither caller nor model says how long."""


class Sizes(NamedTuple):
    """How large a completion may become, in tokens. `cap` is None where nobody says how long its answer may be.

    `likely` is what such an answer usually has, `wanted` what is held of it, `least` the least that is worth calling.
    """

    prompt: PromptEstimate
    cap: int | None
    likely: int
    wanted: int
    least: int


def sizes_of(estimates: Estimates, model: Model, request: pb.CompletionRequest, *, streamed: bool) -> Sizes:
    """Return how large a completion may become: an answer in one message is held whole, a stream as it begins."""
    prompt = estimates.prompt(model.id, request)
    choices = request.choice_count or 1
    cap = request.max_output_tokens or None
    if model.max_output_tokens is not None:
        cap = model.max_output_tokens if cap is None else min(cap, model.max_output_tokens)
    whole = None if cap is None else cap * choices
    likely = estimates.answer(model.id, whole)
    wanted = likely if streamed else whole or UNSTATED_ANSWER_TOKENS * choices
    return Sizes(prompt, whole, likely, wanted, min(wanted, LEAST_ANSWER_TOKENS * choices))


def dearest_of(tariff: Tariff | None, prompt_tokens: int, tier: str) -> tuple[int | None, int | None]:
    """Return the dearest cost of a prompt, and of a million tokens of its answer; None for both without a price."""
    if tariff is None:
        return None, None
    prompt = tariff.dearest(prompt_tokens, 0, tier)
    with_answer = tariff.dearest(prompt_tokens, MILLION, tier)
    return (None, None) if prompt is None or with_answer is None else (prompt, with_answer - prompt)
