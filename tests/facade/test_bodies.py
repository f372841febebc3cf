"""Bodies of requests: how many values they may hold, however long they are."""

from __future__ import annotations

import json

import pytest

from tokendance_facade.bodies import is_heavy

LIGHT = {
    "prose": b'"' + b"Well, this: is [a] prompt. " * 100_000 + b'"',
    "JSON pasted into a text": json.dumps(json.dumps([{"a": [1, 2, 3], "b": "c"}] * 100_000)).encode(),
    "quotes in a text": b'"' + b'\\"' * 1_000_000 + b'"',
    "backslashes in a text": b'"' + b"\\\\" * 1_000_000 + b'"',
    "base64": b'"' + b"QUJD" * 1_000_000 + b'"',
    "white space": b" " * 3_000_000 + b"{}",
    "three hundred thousand tokens": json.dumps(list(range(300_000))).encode(),
    "twenty thousand messages": json.dumps([{"role": "user", "content": "Hello"}] * 20_000).encode(),
}
HEAVY = {
    "a million names": b"{" + b",".join(b'"%d":1' % number for number in range(1_000_000)) + b"}",
    "arrays": b"[" + b"[]," * 300_000 + b"1]",
    "objects": b"[" + b"{}," * 300_000 + b"1]",
    "texts": b'["' + b'a","' * 300_000 + b'"]',
    "numbers": b"[" + b"1," * 600_000 + b"1]",
    "brackets without an end": b"[" * 600_000,
    "quotes without an end": b'"' * 1_200_000,
    "behind a long text": b'["' + b"x" * 1_000_000 + b'",' + b"1," * 600_000 + b"1]",
    "behind a text that ends in backslashes": b'["' + b"\\\\" * 500_000 + b'",' + b"1," * 600_000 + b"1]",
}


@pytest.mark.parametrize("name", [*LIGHT, *HEAVY])
async def test_what_is_heavy(name: str) -> None:
    """Values by the hundred thousand are, and texts of any length are not."""
    assert await is_heavy((LIGHT | HEAVY)[name]) == (name in HEAVY)
