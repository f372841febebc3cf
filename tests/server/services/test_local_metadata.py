"""The rules of metadata, held against gRPC's own: what one channel takes the other takes, unchanged."""

from __future__ import annotations

from typing import Any

import grpc
import grpc.aio
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from tests.server.services.edge import AUTHORIZATION, Edge, Pairs, open_edge, unary

from tokendance_server.services import local_metadata
from tokendance_server.services.local_metadata import check_metadata

REFUSALS = (ValueError, TypeError, grpc.aio.BaseError, grpc.RpcError)
TRANSPORTS_OWN = ("te", "content-type", "content-length", "user-agent", "grpc-timeout", "grpc-status", "grpc-tags-bin")

_words = st.text("abz019-_.", min_size=1, max_size=12).map(lambda text: f"x{text}")
_keys = st.one_of(
    _words,
    _words.map(lambda text: f"{text}-bin"),
    st.text("aA-_.: \n/é", min_size=0, max_size=6).map(lambda text: f"x-{text}"),
    st.text(min_size=0, max_size=4),
)
_text = st.one_of(st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=40), st.text(max_size=20))


def _pair(key: str) -> st.SearchStrategy[tuple[str, str | bytes]]:
    values: st.SearchStrategy[str | bytes] = st.binary(max_size=40) if key.endswith("-bin") else _text
    return st.tuples(st.just(key), values)


# A bare `-bin` is text to one layer of gRPC and bytes to another; here it is refused.
_pairs = st.lists(_keys.filter(lambda key: key != "-bin").flatmap(_pair), max_size=4).map(tuple)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pairs=_pairs)
@example(pairs=(("x-a", " both sides "), ("x-a", "again"), ("x-b-bin", b""), ("x.y_z", "~")))
@example(pairs=(("x-a-bin", "text"),))
@example(pairs=(("x-a", "\t"),))
@example(pairs=(("x-bin", b"\x00"), ("x", "")))
@example(pairs=(("x-a", "\ud800"),))
async def test_both_channels_take_and_refuse_the_same(pairs: Pairs) -> None:
    """Any pairs: refused by both, or arrived at both alike."""
    async with open_edge("local") as local, open_edge("grpc") as remote:
        assert await _arrived(local, pairs) == await _arrived(remote, pairs)


@pytest.mark.parametrize("key", TRANSPORTS_OWN)
async def test_what_the_transport_uses_reaches_no_servicer(edge: Edge, key: str) -> None:
    """Over a socket it is taken off on the way; in process it is refused, so that nobody relies on it."""
    value: str | bytes = b"forged" if key.endswith("-bin") else "forged"
    arrived = await _arrived(edge, ((key, value),))
    assert arrived is None or (key, value) not in arrived


def test_no_metadata_is_no_pairs() -> None:
    """None stands for none."""
    assert check_metadata(None) == ()


def test_the_pairs_come_back_as_they_were() -> None:
    """In their order, repeated keys included."""
    pairs: Pairs = (("x-a", "1"), ("x-b-bin", b"\xff"), ("x-a", "1"))
    assert check_metadata(iter(pairs)) == pairs


def test_many_different_keys_take_no_memory_for_ever() -> None:
    """The keys remembered as legal are few, whatever callers send."""
    for number in range(1000):
        check_metadata([(f"x-{number}", "v")])
    assert len(local_metadata._known_keys) <= 256


async def _arrived(edge: Edge, pairs: Pairs) -> list[Any] | None:
    """Return the pairs as the servicer saw them, or None where they were refused."""
    try:
        await edge.stub.CreateCompletion(unary("echo"), metadata=(AUTHORIZATION, *pairs), timeout=10)
    except REFUSALS:
        return None
    sent = {key for key, _ in pairs}
    seen = [tuple(pair) for pair in edge.servicer.calls[-1].invocation_metadata()]
    return sorted((pair for pair in seen if pair[0] in sent), key=repr)
