"""Ids: a prefix that says what it names, and a UUIDv7 in base32, so that they sort by time and are never reused."""

from __future__ import annotations

import os
import time
from functools import lru_cache

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
# Two digits at a time: every request mints ids, and this takes a third of the time of one at a time.
_PAIRS = [high + low for high in _ALPHABET for low in _ALPHABET]
_RANDOM_BYTES = 10
_RANDOMS_AT_ONCE = 128
# Randomness for the next ids: asked of the system by the hundred, and taken out one by one, whichever thread asks.
_random: list[int] = []
# A child must not mint what its parent mints.
os.register_at_fork(after_in_child=_random.clear)
_RAND_A = 0xFFF << 64
_RAND_B = (1 << 62) - 1
_MARKS = 0x7 << 76 | 0b10 << 62


def new_id(prefix: str) -> str:
    """Return a new id such as `key_01h455vb4pex5vsknk084sn02q`: `prefix`, `_`, and 26 characters of base32.

    The number is a UUIDv7 (RFC 9562, 5.7): 48 bits of milliseconds since 1970, then 74 random bits. The alphabet is
    Crockford's in lower case: no i, l, o, u, so that an id survives being read out.
    """
    try:
        random_bits = _random.pop()
    except IndexError:
        random_bits = _more_random()
    return f"{prefix}_{encode_uuid7(time.time_ns() // 1_000_000, random_bits)}"


def encode_uuid7(milliseconds: int, random_bits: int) -> str:
    """Return a UUIDv7 of the given time and randomness (80 bits, of which 74 are used) in base32."""
    # The top four bits of the randomness make room for the version; of the next twelve and the last 62 none is lost.
    rest = (random_bits >> 4 & _RAND_A) | (random_bits & _RAND_B) | _MARKS
    pairs = _PAIRS
    return (
        f"{_time_digits(milliseconds)}{pairs[rest >> 70]}{pairs[rest >> 60 & 1023]}{pairs[rest >> 50 & 1023]}"
        f"{pairs[rest >> 40 & 1023]}{pairs[rest >> 30 & 1023]}{pairs[rest >> 20 & 1023]}{pairs[rest >> 10 & 1023]}"
        f"{pairs[rest & 1023]}"
    )


def _more_random() -> int:
    """Return 80 random bits, and keep more of them at hand."""
    data = os.urandom(_RANDOM_BYTES * _RANDOMS_AT_ONCE)
    numbers = [int.from_bytes(data[at : at + _RANDOM_BYTES]) for at in range(0, len(data), _RANDOM_BYTES)]
    mine = numbers.pop()
    _random.extend(numbers)
    return mine


@lru_cache(maxsize=16)
def _time_digits(milliseconds: int) -> str:
    """Return the digits of a time: 48 bits behind two that are nothing, so that the rest begins with a digit."""
    bits = milliseconds & ((1 << 48) - 1)
    return "".join([_PAIRS[(bits >> shift) & 1023] for shift in range(40, -1, -10)])
