"""Page tokens and what they are bound to."""

from __future__ import annotations

import base64

import pytest

from tokendance.errors import GatewayError
from tokendance_server.domain.page_tokens import PageTokens

TOKENS = PageTokens(b"k" * 32)


@pytest.mark.parametrize("place", ["", "2026-01-01T00:00:00+00:00 key_1", "ünï %_ \x00 code"])
def test_a_token_opens_for_the_list_that_it_was_made_for(place: str) -> None:
    """Any text is a place."""
    assert TOKENS.open(TOKENS.seal(place, "alice, all keys"), "alice, all keys") == place


@pytest.mark.parametrize("binding", ["", "bob, all keys", "alice, all key", "alice, all keysp"])
def test_a_token_is_no_good_for_another_caller_or_filter(binding: str) -> None:
    """It must not open under any other binding, not even one that moves the border between the two texts."""
    with pytest.raises(GatewayError) as caught:
        TOKENS.open(TOKENS.seal("place", "alice, all keys"), binding)
    assert (caught.value.code, caught.value.param) == ("invalid_request", "page_token")


def test_a_token_of_another_gateway_does_not_open() -> None:
    """The secret decides."""
    with pytest.raises(GatewayError):
        PageTokens(b"x" * 32).open(TOKENS.seal("place", "b"), "b")


def test_a_changed_token_does_not_open() -> None:
    """Every bit counts."""
    sealed = bytearray(base64.urlsafe_b64decode(TOKENS.seal("place", "b")))
    for index in range(len(sealed)):
        changed = bytes(byte ^ (1 if at == index else 0) for at, byte in enumerate(sealed))
        with pytest.raises(GatewayError):
            TOKENS.open(base64.urlsafe_b64encode(changed).decode(), "b")


@pytest.mark.parametrize("token", ["a", "====", "é", "aGVsbG8=", "not a token!", "\ud800"])
def test_garbage_does_not_open(token: str) -> None:
    """And it is the caller's mistake, not ours."""
    with pytest.raises(GatewayError) as caught:
        TOKENS.open(token, "b")
    assert caught.value.param == "page_token"
