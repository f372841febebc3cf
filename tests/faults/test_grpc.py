"""G2, G3 and G4 over gRPC: messages that are too large, packed, malformed, or not what they seem."""

from __future__ import annotations

import base64
import gzip
import json
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]  # ships no types
from tests.e2e.calls import completion_request
from tests.e2e.nodes import Node
from tests.faults.conftest import MESSAGE_LIMIT_BYTES
from tests.faults.frames import Attacker
from tests.faults.probes import MiB, Probe

from tokendance.gateway.v1 import completion_pb2 as pb
from tokendance.gateway.v1 import completions_service_pb2 as completions

SERVICE = "/tokendance.gateway.v1.CompletionsService"
PATHS = [f"{SERVICE}/CreateCompletion", f"{SERVICE}/StreamCompletion"]
SOON_S = 2.0


def good(model: str = "sim-echo", **fields: Any) -> bytes:
    """A good request, which both methods read alike."""
    return completions.CreateCompletionRequest(completion=completion_request(model, **fields)).SerializeToString()


def varint(number: int) -> bytes:
    """A number as protobuf writes it."""
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])


def nested(depth: int) -> bytes:
    """Messages in messages, each in the field 1."""
    message = b""
    for _ in range(depth):
        message = b"\x0a" + varint(len(message)) + message
    return message


def changed(**fields: Any) -> bytes:
    """A good request with other values, whatever the rules say of them."""
    completion = completion_request("sim-echo")
    for name, value in fields.items():
        setattr(completion, name, value)
    return completions.CreateCompletionRequest(completion=completion).SerializeToString()


def messages(*roles: int) -> bytes:
    """A request with messages of these roles, known or not."""
    completion = pb.CompletionRequest(model="sim-echo")
    for role in roles:
        completion.messages.add(role=role).parts.add().text.text = "Hello"
    return completions.CreateCompletionRequest(completion=completion).SerializeToString()


# name -> (message, status, code)
MESSAGES: dict[str, tuple[bytes, str, str]] = {
    "no bytes": (b"", "INVALID_ARGUMENT", "invalid_request"),
    "cut short": (good()[:-3], "INVALID_ARGUMENT", "invalid_request"),
    "noise": (bytes(range(255, 100, -1)) * 50, "INVALID_ARGUMENT", "invalid_request"),
    "a field that says two gigabytes": (b"\x0a\xff\xff\xff\xff\x07abc", "INVALID_ARGUMENT", "invalid_request"),
    "a field that says more than there can be": (
        b"\x0a" + b"\xff" * 9 + b"\x01abc", "INVALID_ARGUMENT", "invalid_request"),
    "a number without end": (b"\x08" + b"\xff" * 1000, "INVALID_ARGUMENT", "invalid_request"),
    "another wire type": (b"\x08\x01", "INVALID_ARGUMENT", "invalid_request"),
    "field number zero": (b"\x02\x00" + good(), "INVALID_ARGUMENT", "invalid_request"),
    "a wire type that is none": (b"\x0f" + good(), "INVALID_ARGUMENT", "invalid_request"),
    "ten thousand open groups": (b"\x0b" * 10_000, "INVALID_ARGUMENT", "invalid_request"),
    "ten thousand groups in an unknown field": (
        good() + b"\xa3\x06" * 10_000 + b"\xa4\x06" * 10_000, "INVALID_ARGUMENT", "invalid_request"),
    "ten thousand messages in messages": (nested(10_000), "INVALID_ARGUMENT", "invalid_request"),
    "a text that is no UTF-8": (good().replace(b"Hello", b"\xff\xfe\xfd"), "INVALID_ARGUMENT", "invalid_request"),
    "unknown fields": (good() + b"\xfa\x7f\x03abc" * 1000, "OK", ""),
    "a megabyte in unknown fields": (good() + b"\xfa\x7f" + varint(MiB) + b"\0" * MiB, "OK", ""),
    "the request twice": (good() * 2, "OK", ""),
    "an unknown role": (messages(99), "INVALID_ARGUMENT", "invalid_request"),
    "a negative role": (messages(-1), "INVALID_ARGUMENT", "invalid_request"),
    "no messages": (messages(), "INVALID_ARGUMENT", "invalid_request"),
    "no model": (changed(model=""), "INVALID_ARGUMENT", "invalid_request"),
    "a model of a megabyte": (changed(model="m" * MiB), "INVALID_ARGUMENT", "invalid_request"),
    "fields that are no JSON": (changed(extra_json="{" * 50_000), "INVALID_ARGUMENT", "invalid_request"),
    "more unknown fields than are served": (
        changed(extra_json=json.dumps(dict.fromkeys(range(50_000), 0))), "INVALID_ARGUMENT", "invalid_request"),
    "one byte over the limit": (
        b"\x0a" + varint(MESSAGE_LIMIT_BYTES) + b"\0" * MESSAGE_LIMIT_BYTES, "RESOURCE_EXHAUSTED", ""),
    "ten times the limit": (b"\0" * 10 * MESSAGE_LIMIT_BYTES, "RESOURCE_EXHAUSTED", ""),
}  # fmt: skip


def call(node: Node, path: str, message: bytes, **options: Any) -> tuple[str, str, str]:
    """Send bytes as a message; status, code and text of the answer."""
    metadata = (("authorization", f"Bearer {node.api_key}"),)
    with grpc.insecure_channel(node.grpc, options=[("grpc.max_send_message_length", -1)]) as channel:
        make: Any = channel.unary_stream if "Stream" in path else channel.unary_unary
        try:
            answer = make(path)(message, metadata=metadata, timeout=10, **options)
            if "Stream" in path:
                assert list(answer)
        except grpc.RpcError as failure:
            failed: Any = failure
            packed = dict(failed.trailing_metadata() or ()).get("grpc-status-details-bin")
            return failed.code().name, reason_of(packed), failed.details()
    return "OK", "", ""


def reason_of(packed: bytes | None) -> str:
    """The stable code in the details of a failure; nothing where gRPC itself refused."""
    if packed is None:
        return ""
    info = error_details_pb2.ErrorInfo()
    assert status_pb2.Status.FromString(packed).details[0].Unpack(info)
    return str(info.reason.lower())


@pytest.mark.parametrize("name", MESSAGES)
def test_each_message_is_answered(node: Node, name: str) -> None:
    """With a status that says whose fault it is, and never with the words of an exception."""
    message, status, code = MESSAGES[name]
    for path in PATHS:
        seen = call(node, path, message)
        assert seen[:2] == (status, code), seen
        for word in ("Traceback", "Unexpected", "google.protobuf", "class", "DecodeError"):
            assert word not in seen[2]


def test_nothing_is_left_of_them(node: Node, probe: Probe) -> None:
    """Several times over, with somebody else calling."""
    for message, status, _ in list(MESSAGES.values()) * 2:
        assert call(node, PATHS[0], message)[0] == status


def test_packed_messages_count_as_what_they_unpack_to(node: Node, probe: Probe) -> None:
    """What fits is read; a bomb is refused for its size, unpacked no further than that."""
    assert call(node, PATHS[0], good(), compression=grpc.Compression.Gzip)[0] == "OK"
    for size in (MESSAGE_LIMIT_BYTES + 1, 32 * MiB):
        for kind in (grpc.Compression.Gzip, grpc.Compression.Deflate):
            for _ in range(2):
                assert call(node, PATHS[0], b"\0" * size, compression=kind)[0] == "RESOURCE_EXHAUSTED"


def test_packing_that_is_none(node: Node) -> None:
    """A flag without an encoding, an encoding that nobody knows, and bytes that do not unpack."""
    framed = good()
    for encoding, flag, message in (
        ("", 1, framed),
        ("gzip", 1, b"\x1f\x8b\x08" + b"\xff" * 100),
        ("gzip", 1, gzip.compress(framed)[:-9]),
        ("br", 1, framed),
        ("gzip", 2, framed),
        ("gzip", 255, framed),
    ):
        with Attacker(node.grpc) as attacker:
            stream = attacker.call(
                node, message, flag=flag, headers=[("grpc-encoding", encoding)] if encoding else [], path=PATHS[0]
            )
            status = attacker.status_of(stream)
            assert status not in ("0", "2"), (encoding, flag, status)


@pytest.mark.parametrize("size", [2**31, 2**32 - 1])
def test_a_length_that_lies(node: Node, size: int, probe: Probe) -> None:
    """Nobody makes room for two gigabytes because five bytes ask for it."""
    with Attacker(node.grpc) as attacker:
        stream = attacker.call(node, b"abc", length=size, path=PATHS[0])
        assert attacker.status_of(stream) == "8"


METADATA: dict[str, tuple[list[tuple[str, str]], str]] = {
    "two credentials": ([("authorization", "Bearer tdk_other")], "UNAUTHENTICATED"),
    "40 kB of metadata": ([("x-large", "x" * 40_000)], "RESOURCE_EXHAUSTED"),
    "a hundred kB of metadata": ([("x-large", "x" * 100_000)], "RESOURCE_EXHAUSTED"),
    "40 kB in small pieces": ([(f"x-{number}", "x" * 40) for number in range(600)], "RESOURCE_EXHAUSTED"),
    "four MB in small pieces": ([(f"x-{number}", "x" * 40) for number in range(50_000)], "RESOURCE_EXHAUSTED"),
    "what looks like the facade's word": (
        [("x-tokendance-caller-bin", base64.b64encode(b"\xff" * 100).decode())],
        "OK",
    ),
    "a deadline that is none": ([("grpc-timeout", "soon")], "INTERNAL"),
}


@pytest.mark.parametrize("name", METADATA)
def test_metadata(node: Node, name: str) -> None:
    """Headers of HTTP/2, as they stand on the wire."""
    headers, expected = METADATA[name]
    with Attacker(node.grpc) as attacker:
        stream = attacker.call(node, good(), headers=headers, path=PATHS[0])
        status = attacker.status_of(stream)
    assert status == {"OK": "0", "RESOURCE_EXHAUSTED": "8", "INTERNAL": "13", "UNAUTHENTICATED": "16"}[expected]
