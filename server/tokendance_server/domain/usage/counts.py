"""Token counts of one call, and which of a provider's counts are believed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from tokendance.gateway.v1 import completion_pb2 as pb

MOST_TOKENS = 100_000_000
"""No call has more tokens than this: counts above it are not believed."""

FIELDS = (
    "input_tokens",
    "output_tokens",
    "cached_input_tokens",
    "cache_write_tokens",
    "reasoning_tokens",
    "audio_input_tokens",
    "audio_output_tokens",
    "image_input_tokens",
    "accepted_prediction_tokens",
    "rejected_prediction_tokens",
)
_INPUT_DETAILS = ("cached_input_tokens", "cache_write_tokens", "audio_input_tokens", "image_input_tokens")
_OUTPUT_DETAILS = (
    "reasoning_tokens",
    "audio_output_tokens",
    "accepted_prediction_tokens",
    "rejected_prediction_tokens",
)


class Counts(msgspec.Struct, frozen=True, omit_defaults=True):
    """The counts of `pb.Usage`, each 0 or more. The details are parts of `input_tokens` or `output_tokens`."""

    input_tokens: int = 0
    output_tokens: int = 0
    cached_input_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    audio_input_tokens: int = 0
    audio_output_tokens: int = 0
    image_input_tokens: int = 0
    accepted_prediction_tokens: int = 0
    rejected_prediction_tokens: int = 0


NOTHING = Counts()


class Believed(NamedTuple):
    """Counts to charge, and whether any of them is an estimate."""

    counts: Counts
    estimated: bool


def believe(reported: pb.Usage | None, estimate: Counts | None, *, repeated: bool = False) -> Believed:
    """Return what an attempt is charged.

    `reported` is None where the provider said nothing of usage; `estimate` is what the gateway makes of the prompt and
    of what was delivered, None where nothing reached the provider that it could bill. A provider's counts win, also an
    explicit 0. A negative one, one above MOST_TOKENS, and both where the provider told them more than once
    (`repeated`) are replaced by the estimate; a detail that cannot be is taken for 0, or for the whole. What was
    replaced makes the counts estimated. Nothing is ever negative.
    """
    fallback = estimate or NOTHING
    if reported is None:
        return Believed(fallback, estimate is not None)
    given, used = reported.input_tokens, reported.output_tokens
    estimated = repeated or reported.source != pb.USAGE_SOURCE_PROVIDER
    if repeated or not 0 <= given <= MOST_TOKENS:
        given, estimated = fallback.input_tokens, True
    if repeated or not 0 <= used <= MOST_TOKENS:
        used, estimated = fallback.output_tokens, True
    details = {}
    for names, whole in ((_INPUT_DETAILS, given), (_OUTPUT_DETAILS, used)):
        for name in names:
            if count := getattr(reported, name):
                # Predictions that were not used are billed beside the answer, and are no part of it everywhere.
                most = MOST_TOKENS if name == "rejected_prediction_tokens" else whole
                details[name] = kept = min(count, most) if count > 0 else 0
                estimated = estimated or kept != count
    return Believed(Counts(given, used, **details), estimated)


def add_up(all_counts: Iterable[Counts]) -> Counts:
    """Return the sum."""
    listed = list(all_counts)
    if len(listed) == 1:
        return listed[0]
    return Counts(*(sum(getattr(one, name) for one in listed) for name in FIELDS))
