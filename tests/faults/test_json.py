"""G3 over REST: JSON that is no JSON, more than anybody needs, or of the wrong shape."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.e2e.nodes import Node
from tests.faults.probes import Probe
from tests.faults.wire import GOOD, posted

# On a machine that does much else at the same time; by itself each takes a few milliseconds.
SOON_S = 1.0
MESSAGES = [{"role": "user", "content": "Hello"}]


def chat(**fields: Any) -> bytes:
    """A good request with other fields."""
    return json.dumps({"model": "sim-echo", "messages": MESSAGES} | fields).encode()


def with_text(text: bytes) -> bytes:
    """A good request whose only text is these bytes between quotes."""
    return GOOD.replace(b"Hello", text)


def with_field(text: bytes) -> bytes:
    """A good request with one more field, as it stands."""
    return GOOD.replace(b"{", b"{" + text + b",", 1)


# name -> (body, status, code, param)
BODIES: dict[str, tuple[bytes, int, str, str | None]] = {
    "a hundred thousand arrays": (b"[" * 100_000, 400, "invalid_json", None),
    "a hundred thousand objects": (b'{"a":' * 100_000, 400, "invalid_json", None),
    "deep in a field": (with_field(b'"metadata":' + b"[" * 50_000 + b"]" * 50_000), 400, "invalid_json", None),
    "deep in a schema": (
        chat(tools=[{"type": "function", "function": {"name": "a", "parameters": "D"}}]).replace(
            b'"D"', b'{"items":' * 50_000 + b"{}" + b"}" * 50_000
        ), 400, "invalid_json", None),
    "not a number": (with_field(b'"temperature":NaN'), 400, "invalid_json", None),
    "infinity": (with_field(b'"temperature":Infinity'), 400, "invalid_json", None),
    "minus infinity": (with_field(b'"temperature":-Infinity'), 400, "invalid_json", None),
    "an exponent that is too large": (with_field(b'"temperature":1e999'), 400, "invalid_json", None),
    "half a surrogate": (with_text(b"\\ud800"), 400, "invalid_json", None),
    "surrogates in the wrong order": (with_text(b"\\udc00\\ud800"), 400, "invalid_json", None),
    "bytes that are no UTF-8": (with_text(b"\xff\xfe"), 400, "invalid_json", None),
    "UTF-8 of a surrogate": (with_text(b"\xed\xa0\x80"), 400, "invalid_json", None),
    "UTF-8 that is too long": (with_text(b"\xc0\xaf"), 400, "invalid_json", None),
    "UTF-16": (GOOD.decode().encode("utf-16"), 400, "invalid_json", None),
    "a byte order mark": (b"\xef\xbb\xbf" + GOOD, 400, "invalid_json", None),
    "a null byte in a text": (with_text(b"a\0b"), 400, "invalid_json", None),
    "an escaped null byte": (with_text(b"a\\u0000b"), 200, "", None),
    "a null byte behind the end": (GOOD + b"\0", 400, "invalid_json", None),
    "two documents": (GOOD + GOOD, 400, "invalid_json", None),
    "half a document": (GOOD[:-20], 400, "invalid_json", None),
    "no document": (b"", 400, "invalid_json", None),
    "white space": (b" " * 100_000, 400, "invalid_json", None),
    "a comment": (b"/* */" + GOOD, 400, "invalid_json", None),
    "a comma too much": (GOOD[:-1] + b",}", 400, "invalid_json", None),
    "single quotes": (GOOD.replace(b'"', b"'"), 400, "invalid_json", None),
    "an array": (b"[]", 400, "invalid_json", None),
    "null": (b"null", 400, "invalid_json", None),
    "a text": (b'"text"', 400, "invalid_json", None),
    "a number of five thousand digits": (with_field(b'"max_tokens":' + b"9" * 5000), 400, "invalid_json", None),
    "a number beyond 64 bits": (with_field(b'"max_tokens":18446744073709551616'), 400, "invalid_request", "max_tokens"),
    "a negative cap": (chat(max_tokens=-1), 400, "invalid_request", "max_tokens"),
    "a cap of nothing": (chat(max_tokens=0), 400, "invalid_request", "max_tokens"),
    "half a token": (chat(max_tokens=0.5), 400, "invalid_request", "max_tokens"),
    "a cap that is a truth": (chat(max_tokens=True), 400, "invalid_request", "max_tokens"),
    "a thousand choices": (chat(n=1000), 400, "invalid_request", "n"),
    "no messages": (chat(messages=[]), 400, "invalid_request", "messages"),
    "messages that are none": (chat(messages=[1, None]), 400, "invalid_request", "messages[0]"),
    "a model that is an object": (chat(model={"$ne": ""}), 400, "invalid_request", "model"),
    "a model of a megabyte": (chat(model="m" * 1_000_000), 400, "invalid_request", "model"),
    "seventy thousand fields": (
        with_field(b",".join(b'"f%d":1' % number for number in range(70_000))), 400, "invalid_request", "f256"
    ),
    "as many unknown fields as are served": (
        with_field(b",".join(b'"f%d":1' % number for number in range(256))), 200, "", None
    ),
    "ten thousand messages": (chat(messages=MESSAGES * 10_000), 200, "", None),
    "ten thousand and one messages": (chat(messages=MESSAGES * 10_001), 400, "invalid_request", "messages"),
    "ten thousand tools": (
        chat(tools=[{"type": "function", "function": {"name": f"t{number}"}} for number in range(10_000)]),
        400, "invalid_request", "tools"
    ),
    "a repeated field": (with_field(b'"model":"no-such-model"'), 200, "", None),
    "a repeated field in disguise": (with_field(b'"\\u006dodel":"no-such-model"'), 200, "", None),
    "fields that nobody knows": (chat(unknown={"a": [1, 2.5, None]}, __proto__={}, constructor=1), 200, "", None),
    "code in a text": (with_text(b"{{7*7}}<script>${jndi:ldap://a}%00"), 200, "", None),
}  # fmt: skip


@pytest.mark.parametrize("name", BODIES)
def test_each_document_is_answered(node: Node, name: str) -> None:
    """With the field that is wrong where it has one; in no time; and never as a failure of the gateway's own."""
    body, status, code, param = BODIES[name]
    reply = posted(node, body)
    assert reply.took_s < SOON_S
    if status == 200:
        assert reply.status == 200, reply.body
    else:
        assert (reply.status, reply.error["code"]) == (status, code)
        assert (reply.error["param"] or "").startswith(param or "")


@pytest.mark.parametrize("path", ["/v1/completions", "/v1/embeddings"])
def test_nor_does_any_other_path_fail(node: Node, path: str, probe: Probe) -> None:
    """The same documents are nobody's, there."""
    for _ in range(2):
        probe.begin_again()
        for body, *_ in BODIES.values():
            reply = posted(node, body, path=path)
            assert reply.status in (200, 400, 404), reply.body
