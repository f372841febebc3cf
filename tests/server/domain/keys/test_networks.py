"""The networks from which a key may be used."""

from __future__ import annotations

import pytest

from tokendance.errors import GatewayError
from tokendance_server.domain.keys.networks import check_network, parse_network
from tokendance_server.domain.principals import Principal


def _caller(*networks: str) -> Principal:
    return Principal(kinds=frozenset(), name="key", allowed_networks=networks)


@pytest.mark.parametrize("address", ["192.0.2.1", "2001:db8::1", "", "nonsense"])
def test_a_key_without_networks_is_good_everywhere(address: str) -> None:
    """Even where the address is not known."""
    check_network(_caller(), address)


@pytest.mark.parametrize(
    ("network", "address"),
    [
        ("192.0.2.0/24", "192.0.2.255"),
        ("192.0.2.7", "192.0.2.7"),
        ("192.0.2.0/24", "::ffff:192.0.2.9"),
        ("2001:db8::/32", "2001:db8:1::5"),
        ("0.0.0.0/0", "203.0.113.1"),
    ],
)
def test_an_address_within_a_network_passes(network: str, address: str) -> None:
    """IPv4 callers that a socket of both families shows as IPv6 pass as well."""
    check_network(_caller("198.51.100.0/24", network), address)


@pytest.mark.parametrize("address", ["192.0.3.0", "2001:db8::1", "", "unix:", "192.0.2.1:443", "192.0.2.1%eth0"])
def test_every_other_address_is_refused(address: str) -> None:
    """An address that is not known is never a good one."""
    with pytest.raises(GatewayError) as caught:
        check_network(_caller("192.0.2.0/24"), address)
    assert caught.value.code == "ip_not_allowed"


@pytest.mark.parametrize("text", ["10.0.0.1/8", "10.0.0.0/33", "", "10.0.0", "localhost", "10.0.0.0/8 "])
def test_what_is_no_network_is_refused(text: str) -> None:
    """Bits behind the mask are ambiguous, so they are no network."""
    with pytest.raises(ValueError, match=r".*"):
        parse_network(text)
