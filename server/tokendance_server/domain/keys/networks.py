"""The networks from which a key may be used."""

from __future__ import annotations

import ipaddress
from functools import lru_cache

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import errors_pb2
from tokendance_server.domain.principals import Principal

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def parse_network(text: str) -> Network:
    """Return a network in CIDR form, or a single address as a network of one. Raises ValueError for anything else.

    Bits set behind the mask are refused: `10.0.0.1/8` means either one machine or sixteen million.
    """
    return ipaddress.ip_network(text)


def check_network(principal: Principal, address: str) -> None:
    """Let a caller pass whose key may be used from `address`: an IP address, or empty where it is not known.

    Raises ip_not_allowed. A key that names networks is never accepted from an address that is not known.
    """
    if principal.allowed_networks and not _allows(principal.allowed_networks, address):
        raise GatewayError(
            errors_pb2.ERROR_REASON_IP_NOT_ALLOWED,
            "This API key may not be used from this network; call from one that it allows, or have them changed.",
            origin="caller",
        )


@lru_cache(maxsize=4096)
def _allows(networks: tuple[str, ...], address: str) -> bool:
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return False
    # A socket of both families shows IPv4 callers so.
    mapped = getattr(ip, "ipv4_mapped", None)
    ip = mapped or ip
    return any(ip in parse_network(network) for network in networks)
