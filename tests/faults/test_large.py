"""G3 over REST at the limit that a node has by itself: as much as 32 MiB of JSON holds, and whom that holds up."""

from __future__ import annotations

import json
import os
from collections.abc import Callable

import pytest
from tests.e2e.nodes import Node
from tests.faults.conftest import BODY_LIMIT_BYTES as LIMIT
from tests.faults.holds import hold_of
from tests.faults.probes import MiB
from tests.faults.wire import GOOD, posted

# Nobody waits longer for an answer than this, on a machine that has time for it. Others that run tests at the same
# time make it longer; what is not bounded takes seconds all the same.
HOLD_S = float(os.environ.get("HOLD_S", "0.4"))
MESSAGE = b'{"role":"user","content":"Hello"}'
FUNCTION = b'{"type":"function","function":{"name":"a","parameters":%b}}'

LARGE_SCHEMA = b'{"a":"' + b"x" * 40_000 + b'"}'


def filled(before: bytes, unit: bytes, after: bytes, size: int = LIMIT) -> bytes:
    """So many bytes: a beginning, a unit as often as it fits, an end, and white space."""
    count = (size - len(before) - len(after)) // len(unit)
    return (before + unit * count + after).ljust(size)


def field(text: bytes, unit: bytes, after: bytes) -> Callable[[], bytes]:
    """A good request with one more field, which fills the rest of it."""
    return lambda: filled(GOOD[:-1].replace(b"sim-echo", b"sim") + b"," + text, unit, after + b"}")


def prompt(before: bytes, unit: bytes, after: bytes = b"") -> Callable[[], bytes]:
    """A request whose only message has a content that fills the rest of it."""
    head = b'{"model":"sim","messages":[{"role":"user","content":'
    return lambda: filled(head + before, unit, after + b"}]}")


def messages(count: int) -> Callable[[], bytes]:
    """So many of the smallest messages."""
    return lambda: b'{"model":"sim","messages":[' + b",".join([MESSAGE] * count) + b"]}"


def names(form: bytes, count: int, before: bytes = b"", after: bytes = b"") -> Callable[[], bytes]:
    """A good request with so many fields more, perhaps inside one."""
    return lambda: GOOD[:-1] + b"," + before + b",".join(form % number for number in range(count)) + after + b"}"


def image(before: bytes, unit: bytes, after: bytes = b"") -> Callable[[], bytes]:
    """A picture in the request itself."""
    return prompt(b'[{"type":"image_url","image_url":{"url":"data:' + before, unit, after + b'"}}]')


INVALID = (400, "invalid_request")
JSON = (400, "invalid_json")
TAKEN = (200, "")

# name -> (body, (status, code), param)
BODIES: dict[str, tuple[Callable[[], bytes], tuple[int, str], str | None]] = {
    "one byte over the limit": (lambda: b" " * (LIMIT + 1), (413, "request_too_large"), None),
    "white space": (lambda: b" " * LIMIT, JSON, None),
    "a prompt": (prompt(b'"', b"word ", b'"'), TAKEN, None),
    "a prompt of line breaks": (prompt(b'"', b"\\n", b'"'), TAKEN, None),
    "a prompt in escapes": (prompt(b'"', b"\\u00e9", b'"'), TAKEN, None),
    "a prompt of surrogates": (prompt(b'"', b"\\ud83d\\ude00", b'"'), TAKEN, None),
    "JSON pasted into a prompt": (prompt(b'"', json.dumps('{"a": [1, 2, {"b": []}], "c": "d"}, ').encode()[1:-1], b'"'),
                                  TAKEN, None),
    "a table pasted into a prompt": (prompt(b'"', b"1,2,3,4,5\\n", b'"'), TAKEN, None),
    "a prompt that ends in half a surrogate": (prompt(b'"', b"x", b'\\ud800"'), JSON, None),
    "a prompt that ends in bad UTF-8": (prompt(b'"', b"x", b'\xff"'), JSON, None),
    "a prompt without an end": (lambda: filled(b'{"model":"sim","messages":[{"content":"', b"x", b""), JSON, None),
    "a prompt of parts": (prompt(b"[", b'{"type":"text","text":"H"},', b"1]"), INVALID, None),
    "a picture": (image(b"image/png;base64,", b"QUJD"), TAKEN, None),
    "a picture in percent signs": (image(b"image/png,", b"%41"), INVALID, "messages[0].content[0].image_url.url"),
    "a picture that is no base64": (image(b"image/png;base64,", b"=A"), INVALID, "messages[0].content[0].image_url"),
    "a million names": (names(b'"f%d":1', 1_000_000), INVALID, None),
    "a million names in a field": (names(b'"f%d":1', 1_000_000, b'"a":{', b"}"), INVALID, None),
    "as many names as are parsed": (names(b'"f%d":1', 120_000), INVALID, "f256"),
    "as many names as are parsed, in a field": (names(b'"f%d":1', 120_000, b'"a":{', b"}"), INVALID, "a"),
    "as many long names": (names(b'"%0240d":1', 120_000, b'"a":{', b"}"), INVALID, "a"),
    "a million repeated names": (names(b'"model":"m%d"', 1_000_000), INVALID, None),
    "names in messages": (names(b'"%d":1', 100_000, b'"messages":[{"role":"user","content":"a",', b"}]"), INVALID,
                          "messages[0]"),
    "arrays": (field(b'"a":[', b"[],", b"1]"), INVALID, None),
    "objects": (field(b'"a":[', b"{},", b"1]"), INVALID, None),
    "texts": (field(b'"a":[', b'"a",', b"1]"), INVALID, None),
    "numbers": (field(b'"a":[', b"1,", b"1]"), INVALID, None),
    "long numbers": (field(b'"a":[', b"0." + b"123456789" * 7 + b",", b"1]"), INVALID, None),
    "sixteen million open arrays": (lambda: b"[" * LIMIT, INVALID, None),
    "open arrays in a field": (field(b'"a":', b"[", b""), INVALID, None),
    "as many open arrays as are parsed": (lambda: b"[" * 249_000, JSON, None),
    "a number of 32 million digits": (field(b'"max_tokens":', b"9", b""), JSON, None),
    "a fraction of 32 million digits": (field(b'"temperature":0.', b"9", b""), TAKEN, None),
    "a truth that is a megabyte of text": (field(b'"store":"', b"x", b'"'), INVALID, "store"),
    "a large unknown field": (field(b'"a":"', b"x", b'"'), INVALID, "a"),
    "a large unknown field of line breaks": (field(b'"a":"', b"\\n", b'"'), INVALID, "a"),
    "a large name": (field(b'"', b"x", b'":1'), INVALID, "xxx"),
    "a large model": (lambda: filled(b'{"messages":[{}],"model":"', b"x", b'"}'), INVALID, None),
    "a large role": (lambda: filled(b'{"model":"m","messages":[{"role":"', b"x", b'"}]}'), INVALID, "messages[0].role"),
    "a large schema": (field(b'"tools":[' + FUNCTION.partition(b"%b")[0] + b'{"a":"', b"\\n", b'"}}}]'), INVALID,
                       "tools"),
    "many schemas": (field(b'"tools":[', FUNCTION % LARGE_SCHEMA + b",", FUNCTION % b"{}" + b"]"),
                     INVALID, "tools"),
    "ten thousand tools": (lambda: GOOD[:-1] + b',"tools":[' + b",".join([FUNCTION % b"{}"] * 10_000) + b"]}", INVALID,
                           "tools"),
    "a large form of the answer": (
        field(b'"response_format":{"type":"json_schema","json_schema":{"name":"a","schema":{"a":"', b"\\n", b'"}}}'),
        INVALID, "response_format"),
    "ten thousand messages": (messages(10_000), TAKEN, None),
    "forty thousand messages": (messages(40_000), INVALID, "messages"),
    "a hundred thousand messages": (messages(100_000), INVALID, None),
    "a million messages": (messages(900_000), INVALID, None),
}  # fmt: skip


@pytest.mark.parametrize("name", BODIES)
def test_a_large_body_holds_nobody_up(roomy: Node, name: str) -> None:
    """It is taken, or refused with the field that is wrong; others are answered meanwhile, and afterwards."""
    make, (status, code), param = BODIES[name]
    body = make()
    replies = []
    hold_s = hold_of(roomy, lambda: replies.append(posted(roomy, body)))
    took_ms = replies[-1].took_s * 1000
    print(f"hold {hold_s * 1000:4.0f} ms, {took_ms:5.0f} ms in all, {len(body) / MiB:4.1f} MiB: {name}")
    for reply in replies:
        if status == 200:
            assert reply.status == 200, reply.body
        else:
            assert (reply.status, reply.error["code"]) == (status, code), reply.body
            assert (reply.error["param"] or "").startswith(param or "")
    assert hold_s < HOLD_S
    assert posted(roomy, GOOD).status == 200
