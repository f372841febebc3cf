"""What a servicer learns of its call."""

from __future__ import annotations

import pytest

from tokendance_server.services.call import address_of


@pytest.mark.parametrize(
    ("peer", "address"),
    [
        ("ipv4:127.0.0.1:50000", "127.0.0.1"),
        ("ipv6:%5B::1%5D:50000", "::1"),
        ("ipv6:[2001:db8::1]:443", "2001:db8::1"),
        ("unix:", ""),
        ("unix:/run/facade.sock", ""),
        ("local:", ""),
        ("", ""),
    ],
)
def test_the_address_is_read_from_the_peer(peer: str, address: str) -> None:
    """Without port and brackets; a socket file has none."""
    assert address_of(peer) == address
