"""Bytes to events, by the WHATWG rules, however the bytes arrive."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokendance.errors import GatewayError
from tokendance_server.providers.sse import SseEvent, SseParser

TRICKY = (
    b"\xef\xbb\xbf: a comment\n\n"
    b'data: {"a":1}\n\n'
    b"data:no space\r\n\r\n"
    b"data: one\rdata:  two\r\r"
    b"event: error\r\nid: 4\nretry: 10\ndata: \xe2\x80\xa8\xc2\x85\n\n"
    b"data\n\n"
    b"event: lonely\n\n"
    b'error: {"message":"m"}\n\n'
    b"unknown: x\ndata: y\n\n"
    b"data: [DONE]\n\n"
    b"data: never finished\n"
)
MEANT: list[SseEvent] = [
    (b"", b'{"a":1}'),
    (b"", b"no space"),
    (b"", b"one\n two"),
    (b"error", b"\xe2\x80\xa8\xc2\x85"),
    (b"", b""),
    (b"error", b'{"message":"m"}'),
    (b"", b"y"),
    (b"", b"[DONE]"),
]


def parsed(*packets: bytes) -> list[SseEvent]:
    """The events of a stream that arrives in these packets."""
    parser = SseParser()
    return [event for packet in packets for event in parser.feed(packet)]


def test_every_rule_is_followed() -> None:
    """Marks, comments, three line ends, fields with and without space, names; what is incomplete is discarded."""
    assert parsed(TRICKY) == MEANT


def test_a_split_at_any_byte_changes_nothing() -> None:
    """Two packets, whatever the place of the cut, or one for each byte."""
    for at in range(len(TRICKY) + 1):
        assert parsed(TRICKY[:at], TRICKY[at:]) == MEANT
    assert parsed(*(TRICKY[at : at + 1] for at in range(len(TRICKY)))) == MEANT


@given(st.lists(st.integers(0, len(TRICKY)), max_size=12))
def test_many_splits_change_nothing(cuts: list[int]) -> None:
    """Any number of packets, empty ones among them."""
    places = [0, *sorted(cuts), len(TRICKY)]
    assert parsed(*(TRICKY[a:b] for a, b in pairwise(places))) == MEANT


def test_a_byte_order_mark_counts_only_at_the_beginning() -> None:
    """Later it belongs to the name of a field, which nobody knows."""
    assert parsed(b"data: a\n\n", b"\xef\xbb\xbfdata: b\n\n") == [(b"", b"a")]


def test_whole_events_after_half_a_line_are_not_mixed_up() -> None:
    """The fast path is not taken while something is incomplete."""
    assert parsed(b"data: a", b"\n\n") == [(b"", b"a")]
    assert parsed(b"data: a\n", b"data: b\n\n") == [(b"", b"a\nb")]
    assert parsed(b"event: x\n", b"data: b\n\n") == [(b"x", b"b")]
    assert parsed(b"data: a\r", b"\ndata: b\n\n") == [(b"", b"a\nb")]


@pytest.mark.parametrize("packet", [b"data: " + b"x" * 100 + b"\n\n", b"data: " + b"x" * 100, b"data: 12345\n" * 10])
def test_an_event_beyond_the_limit_is_an_error(packet: bytes) -> None:
    """In one line, in a line that does not end, or in many lines."""
    with pytest.raises(GatewayError) as caught:
        SseParser(event_bytes=64).feed(packet)
    assert caught.value.code == "provider_error"
    assert caught.value.origin == "provider"


def test_many_small_events_are_within_the_limit() -> None:
    """The limit is for one event, not for the stream."""
    assert len(SseParser(event_bytes=64).feed(b"data: 12345\n\n" * 1000)) == 1000


def test_a_long_line_in_small_packets_costs_no_square() -> None:
    """A megabyte in packets of sixteen bytes is one event."""
    parser = SseParser()
    assert parser.feed(b"data: ") == []
    for _ in range(65536):
        assert parser.feed(b"x" * 16) == []
    assert len(parser.feed(b"\n\n")[0][1]) == 1024 * 1024
