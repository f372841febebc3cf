"""What the time of a refusal tells of a key: nothing of its characters."""

from __future__ import annotations

import gc
import math
import random
import secrets
import time

import pytest
from tests.server.domain.house import OPERATOR, House, draft_for

from tokendance.credentials import base62, checksum
from tokendance.errors import GatewayError

GUESSES = 10_000
"""Of each kind."""
TRIES = 3
"""A machine that does something else may spoil one; what a secret gives away by time shows in all."""
RANDOM_CHARACTERS = 43


@pytest.mark.long
async def test_near_guesses_take_as_long_as_far_ones(house: House) -> None:
    """Guesses that lack four characters of a real secret and ones that lack all: one distribution, by rank sums."""
    names = await house.open()
    _, secret = await house.keys.create(OPERATOR, names.organization, draft_for(names))
    shares = [await _p_value(house, secret) for _ in range(TRIES)]
    print(f"p of {TRIES} tries: {', '.join(f'{p:.3f}' for p in shares)}")
    assert max(shares) > 0.01


async def _p_value(house: House, secret: str) -> float:
    """Return how likely so great a difference would be, if there were none."""
    kinds = [True, False] * GUESSES
    random.shuffle(kinds)
    # Made in the order in which they are sent: where a text lies in memory must not tell its kind either.
    order = [(_guess(secret[:-10] if is_near else "tdk_"), is_near) for is_near in kinds]
    times, codes = [], set()
    gc.disable()
    try:
        for guess, is_near in order:
            started = time.perf_counter_ns()
            try:
                await house.verifier.verify(guess)
            except GatewayError as error:
                times.append((time.perf_counter_ns() - started, is_near))
                codes.add(error.code)
    finally:
        gc.enable()
    assert (len(times), codes) == (2 * GUESSES, {"invalid_api_key"})
    times.sort()
    ranks = sum(rank for rank, (_, is_near) in enumerate(times, 1) if is_near)
    mean = GUESSES * (2 * GUESSES + 1) / 2
    deviation = math.sqrt(GUESSES * GUESSES * (2 * GUESSES + 1) / 12)
    return math.erfc(abs(ranks - mean) / deviation / math.sqrt(2))


def _guess(beginning: str) -> str:
    """Return a well-formed secret that begins so."""
    missing = 4 + RANDOM_CHARACTERS - len(beginning)
    text = beginning + base62(secrets.randbits(6 * missing), missing)
    return text + checksum(text)
