"""What a JSON text weighs: told alike wherever it is cut, and never more for what stands inside texts."""

from __future__ import annotations

import itertools
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokendance_facade.json_weight import MAX_WEIGHT, NEVER_HEAVY_BYTES, Weight, is_heavy

JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=8), st.text(alphabet='\\",:[{', max_size=8)),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=8), inner, max_size=4)),
    max_leaves=30,
)


def weigh(*pieces: bytes) -> int:
    """The weight of a text in pieces."""
    weight = Weight()
    for piece in pieces:
        weight.add(piece)
    return weight.total


def expected(value: object) -> int:
    """The weight of a value, counted from what it is."""
    if isinstance(value, str):
        return 1
    if isinstance(value, list):
        return 2 + sum(map(expected, value)) + max(len(value) - 1, 0)
    if isinstance(value, dict):
        return 2 + sum(map(expected, value.values())) + 3 * len(value) + max(len(value) - 1, 0)
    return 0


@settings(max_examples=200, deadline=None, derandomize=True, database=None)
@given(JSON, st.booleans(), st.lists(st.integers(0, 400), max_size=4))
def test_a_text_weighs_what_is_in_it(value: object, ascii_only: bool, cuts: list[int]) -> None:
    """However it is escaped, and wherever it is cut."""
    text = json.dumps(value, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
    places = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    pieces = [text[start:end] for start, end in itertools.pairwise(places)]
    assert weigh(*pieces) == weigh(text) == expected(value)


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


def test_few_bytes_are_never_heavy() -> None:
    """So nobody needs to weigh them."""
    for piece in (b"[", b"{", b":", b",", b'"'):
        assert weigh(piece * NEVER_HEAVY_BYTES) <= MAX_WEIGHT
