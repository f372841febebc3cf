"""Who is at the other end of a mutual TLS connection: the gateway's facade, or somebody else with a certificate."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import datetime

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import errors_pb2
from tokendance_server.services.peer_certificates import PeerCertificates


class FacadePeers:
    """Knows facades by the names in their certificates; `now` tells the time."""

    def __init__(self, identities: Collection[str], now: Callable[[], datetime]) -> None:
        self._identities = frozenset(identities)
        self._certificates = PeerCertificates(now)

    def admit(self, authenticated: Mapping[str, Iterable[bytes]]) -> bool:
        """Tell whether the peer of a connection is a facade, from what gRPC's `auth_context` says of it."""
        return not self._identities.isdisjoint(self._certificates.names(authenticated))


def not_a_facade() -> GatewayError:
    """Return what a stranger at the facade's listener is told, whatever it calls."""
    return GatewayError(
        errors_pb2.ERROR_REASON_PERMISSION_DENIED,
        "This address is for the gateway's own facade, and the client certificate is not one of a facade's that is "
        "valid now; call the gRPC address instead.",
        metadata={"listener": "facade"},
        origin="caller",
    )
