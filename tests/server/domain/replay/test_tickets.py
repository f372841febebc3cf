"""What a secret makes of an idempotency key."""

from __future__ import annotations

import pytest

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import completion_pb2 as pb
from tokendance_server.domain.replay.tickets import Ticket, ticket_of
from tokendance_server.domain.sealing import UnsealError

SECRET = "tdk_secret"


def ticket(
    key: str = "a", secret: str = SECRET, method: str = "create", request: pb.CompletionRequest | None = None
) -> Ticket:
    """A ticket."""
    return ticket_of(secret, key, method, request or pb.CompletionRequest(model="m"))


def test_scope_and_fingerprint() -> None:
    """Another key or secret is another place; another request or method only another fingerprint."""
    one = ticket()
    assert one == ticket()
    assert len({one.scope, ticket("b").scope, ticket(secret="tdk_other").scope}) == 3
    for other in (ticket(method="stream"), ticket(request=pb.CompletionRequest(model="n"))):
        assert (other.scope, other.seal_key) == (one.scope, one.seal_key)
        assert other.fingerprint != one.fingerprint
    assert ticket(secret="tdk_other").fingerprint != one.fingerprint


def test_maps_have_no_order() -> None:
    """Metadata in another order is the same request."""
    there = pb.CompletionRequest(metadata={"a": "1", "b": "2"})
    back = pb.CompletionRequest(metadata={"b": "2", "a": "1"})
    assert ticket(request=there) == ticket(request=back)


@pytest.mark.parametrize(
    "key",
    ["x" * 256, "x" * 10_240, "a b", "a\n", "\x00", "a\r\nx-evil: 1", "\x7f", "schlüssel", "\u202e"],
    ids=["long", "10kB", "space", "newline", "nul", "header", "del", "latin", "bidi"],
)
def test_keys_that_are_none(key: str) -> None:
    """They are refused before anything is derived from them."""
    with pytest.raises(GatewayError) as caught:
        ticket(key)
    assert (caught.value.code, caught.value.param) == ("invalid_request", "idempotency_key")


def test_only_the_same_ticket_opens_what_it_sealed() -> None:
    """Not with another secret, for another request, under another key, nor after a change; nor does it look alike."""
    sealed = ticket().seal(b"answer" * 100)
    assert ticket().open(sealed) == b"answer" * 100
    assert sealed != ticket().seal(b"answer" * 100)
    assert b"answer" not in sealed
    others = [ticket("b"), ticket(secret="tdk_other"), ticket(request=pb.CompletionRequest(model="n"))]
    for one, text in [*((other, sealed) for other in others), (ticket(), sealed[:-1]), (ticket(), b"")]:
        with pytest.raises(UnsealError):
            one.open(text)


def test_a_ticket_does_not_show_its_key() -> None:
    """It may be in a traceback."""
    assert repr(ticket().seal_key) not in repr(ticket())
    assert SECRET not in repr(ticket())
