"""Memory is the same after as before: a hundredth of what was sent, kept, would be seen."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from tests.e2e.calls import completion_request, said
from tests.e2e.nodes import Node
from tests.faults.conftest import BODY_LIMIT_BYTES
from tests.faults.frames import Attacker, frame
from tests.faults.probes import NOISE_BYTES, MiB, Probe
from tests.faults.test_grpc import PATHS, call
from tests.faults.test_json_grpc import Caller
from tests.faults.test_large import BODIES
from tests.faults.wire import GOOD, exchange, head, posted

from tokendance.gateway.v1 import completions_service_pb2 as completions

# Of which a hundredth is more than the noise.
ENOUGH = 120 * NOISE_BYTES

_LEAKING = """
import sys
kept = []
while data := sys.stdin.buffer.read(1 << 20):
    kept.append(b"x" * int(len(data) * {share}))
    if len(kept) % {every} == 0:
        print(flush=True)
"""


@pytest.mark.parametrize(("share", "seen"), [(0.02, True), (0.0, False)])
def test_a_leak_is_seen(share: float, seen: bool, tidy: None) -> None:
    """The measure itself, on a process that keeps a share of what it reads."""
    every = ENOUGH // MiB // 4
    command = [sys.executable, "-c", _LEAKING.format(share=share, every=every)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as popen:

        def attack() -> int:
            assert popen.stdin is not None
            assert popen.stdout is not None
            for _ in range(every):
                popen.stdin.write(b"x" * MiB)
            popen.stdin.flush()
            popen.stdout.readline()
            return every * MiB

        node: Any = SimpleNamespace(processes=[SimpleNamespace(popen=popen)])
        if seen:
            with pytest.raises(AssertionError, match="more than before"):
                Probe(node).leaves_nothing(attack, rounds=4)
        else:
            Probe(node).leaves_nothing(attack, rounds=4)


def body(name: str) -> Callable[[Node], int]:
    """A body of the table of large ones."""
    make, (status, _), _ = BODIES[name]
    text = make()

    def attack(node: Node) -> int:
        assert posted(node, text).status == status
        return len(text)

    return attack


def chunks(node: Node) -> int:
    """A body in chunks that goes on behind the limit."""
    sent = 0

    def endless() -> Iterator[bytes]:
        nonlocal sent
        yield head(node, "Transfer-Encoding: chunked")
        while sent < 2 * BODY_LIMIT_BYTES:
            sent += 0x10000
            yield b"10000\r\n" + b" " * 0x10000 + b"\r\n"

    assert exchange(node, endless()).status == 413
    return sent


def left_midway(node: Node) -> int:
    """A body of which half arrives."""
    half = b" " * (BODY_LIMIT_BYTES // 2)
    assert exchange(node, [head(node, f"Content-Length: {BODY_LIMIT_BYTES}"), half], within_s=0.01).status == 0
    return len(half)


def message(size: int, status: str) -> Callable[[Node], int]:
    """A message of so many bytes."""
    asked = completions.CreateCompletionRequest(completion=completion_request("sim", messages=[said("x" * size)]))
    framed = asked.SerializeToString()

    def attack(node: Node) -> int:
        assert call(node, PATHS[0], framed)[0] == status
        return size

    return attack


def empty_messages(node: Node) -> int:
    """A message of ten million that are empty."""
    count = 10 * MiB
    caller = Caller(node)
    assert caller(b"\x0a\x80\x80\x80\x0a" + b"\x12\x00" * count).code == "invalid_request"
    caller.close()
    return 2 * count


def continuations(node: Node) -> int:
    """Headers without an end."""
    piece = frame(9, 0, 1, (b"\x00\x04x-ab" + bytes([100]) + b"v" * 100) * 150)
    sent = 0
    with Attacker(node.grpc) as attacker:
        start = attacker.http2.encoder.encode([(":method", "POST"), (":scheme", "http"), (":path", PATHS[0])])
        attacker.send(frame(1, 0, 1, start))
        while not attacker.closed and sent < 32 * MiB:
            attacker.send(piece)
            sent += len(piece)
    return sent


LONG = pytest.mark.long
# name -> (the attack, how often it fills what is filled once, marks)
ATTACKS: dict[str, tuple[Callable[[], Callable[[Node], int]], int, tuple[pytest.MarkDecorator, ...]]] = {
    "bodies that are taken": (lambda: body("a prompt"), 2, (LONG,)),
    "bodies that are too heavy": (lambda: body("arrays"), 2, ()),
    "bodies with an error at the end": (lambda: body("a prompt that ends in bad UTF-8"), 2, (LONG,)),
    "bodies with a large unknown field": (lambda: body("a large unknown field"), 2, (LONG,)),
    "chunks without end": (lambda: chunks, 2, (LONG,)),
    "bodies that are left midway": (lambda: left_midway, 2, ()),
    "messages that are taken": (lambda: message(32 * MiB, "OK"), 2, (LONG,)),
    "messages that are too large": (lambda: message(41 * MiB, "RESOURCE_EXHAUSTED"), 2, (LONG,)),
    "messages that are too heavy": (lambda: empty_messages, 24, (LONG,)),
    "headers without end": (lambda: continuations, 8, ()),
}


@pytest.mark.parametrize("name", [pytest.param(name, marks=marks) for name, (_, _, marks) in ATTACKS.items()])
def test_nothing_is_left(tidy: None, roomy: Node, name: str) -> None:
    """Of a quarter of a gigabyte; and the next call is served."""
    make, first, _ = ATTACKS[name]
    attack = make()
    sent = attack(roomy)
    Probe(roomy).leaves_nothing(lambda: attack(roomy), rounds=min(ENOUGH // sent + 1, 15), first=first)
    assert posted(roomy, GOOD).status == 200
