"""How many fields a message makes, counted without reading it."""

from __future__ import annotations

import pytest
from google.protobuf.message import Message

from tokendance.gateway.v1 import completion_pb2 as pb
from tokendance.gateway.v1 import completions_service_pb2 as completions
from tokendance_server.services.wire_weight import MOST_FIELDS, MOST_NUMBER_BYTES, NEVER_HEAVY_BYTES, WireWeight

WEIGHT = WireWeight(completions.CreateCompletionRequest)
COUNT = MOST_FIELDS + 1


def varint(number: int) -> bytes:
    """A number as protobuf writes it."""
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])


def inside(content: bytes, *fields: int) -> bytes:
    """A message inside a message for each field number, the first the outermost."""
    for field in reversed(fields):
        content = varint(field << 3 | 2) + varint(len(content)) + content
    return content


HEAVY = {
    "messages": inside(b"\x12\x00" * COUNT, 1),
    "tools": inside(b"\x1a\x00" * COUNT, 1),
    "parts of one message": inside(b"\x12\x00" * COUNT, 1, 2),
    "parts of a result": inside(b"\x12\x00" * COUNT, 1, 2, 2, 6),
    "messages with parts": inside(b"\x12\x02\x12\x00" * COUNT, 1),
    "labels": inside(b"\x7a\x00" * COUNT, 1),
    "numbers in one list": inside(b"\x01" * (MOST_NUMBER_BYTES + 1), 1, 12),
    "ends of answers": inside(b"\x3a\x00" * COUNT, 1, 9),
    "unknown fields": b"\xf8\x7f\x00" * COUNT,
    "unknown groups": b"\xfb\x7f\xfc\x7f" * COUNT,
    "names in a schema": inside(b"{" + b'"a":1,' * 200_000, 1, 3, 4),
    "quotes in a schema": inside(b'"' * 2_000_000, 1, 3, 4),
    "names in many schemas": inside(inside(b"{" + b'"a":1,' * 2_000, 3, 4) * 100, 1),
    "names in the fields of a part": inside(b"{" + b'"a":1,' * 200_000, 1, 2, 2, 15),
    "messages, and then nonsense": inside(b"\x12\x00" * COUNT, 1) + b"\x12\xff",
}


@pytest.mark.parametrize("name", HEAVY)
def test_many_fields_are_heavy(name: str) -> None:
    """Wherever they stand, and whatever comes behind them."""
    assert WEIGHT.is_heavy(HEAVY[name])


def said(*texts: str) -> Message:
    """A request with a message for each text."""
    asked = pb.CompletionRequest(model="m")
    for text in texts:
        asked.messages.add(role=pb.ROLE_USER).parts.add().text.text = text
    return completions.CreateCompletionRequest(completion=asked)


LIGHT = {
    "a long prompt": said("Hello, \x12\x00" * 3_000_000).SerializeToString(),
    "ten thousand messages": said(*["Hello"] * 10_000).SerializeToString(),
    "three hundred thousand tokens": inside(b"\xff\xff\x03" * 3_000, 1, 3, 1) * 100,
    "a picture": inside(b"\x12\x00" * 5_000_000, 1, 2, 2, 2, 2),
    "one long unknown field": inside(b"\x12\x00" * 5_000_000, 1000),
    "JSON inside a text of a schema": inside(b'{"a":"' + b'{\\"a\\":1},' * 200_000 + b'"}', 1, 3, 4),
    "commas in a description": inside(b"well, " * 600_000, 1, 3, 3),
    "a length that lies": b"\x0a\xff\xff\xff\xff\x07" + b"\x12\x00" * COUNT,
    "messages behind a number without an end": inside(b"\x08" + b"\xff" * 20, 1, 2) + inside(b"\x12\x00" * COUNT, 1),
    "few bytes": b"\x12\x00" * (NEVER_HEAVY_BYTES // 2),
    "nothing": b"",
}


@pytest.mark.parametrize("name", LIGHT)
def test_long_fields_are_not(name: str) -> None:
    """Texts, pictures and what nobody knows may be as long as they fit."""
    assert not WEIGHT.is_heavy(LIGHT[name])
