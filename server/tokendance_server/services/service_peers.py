"""Internal services, known by the names in their client certificates: whom each is, by configuration alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import access_pb2, errors_pb2
from tokendance_server.domain.principals import Principal
from tokendance_server.services.peer_certificates import PeerCertificates

SERVICE = access_pb2.CALLER_KIND_SERVICE


def service_principal(name: str, organization: str) -> Principal:
    """Return the service of a name; `organization` is `organizations/{o}`, or empty for one of the whole platform."""
    full = f"{organization}/services/{name}" if organization else f"services/{name}"
    return Principal(kinds=frozenset({SERVICE}), name=full, organization=organization)


class ServicePeers:
    """Knows services by whole alternative names (DNS or URI); `now` tells the time."""

    def __init__(self, services: Mapping[str, Principal], now: Callable[[], datetime]) -> None:
        self._services = dict(services)
        self._certificates = PeerCertificates(now)

    def find(self, authenticated: Mapping[str, Iterable[bytes]]) -> Principal | None:
        """Return the service at the other end of a connection, or None where it is none that is known.

        Raises permission_denied for a certificate that names several.
        """
        known = [self._services.get(name) for name in self._certificates.names(authenticated)]
        found = {one.name: one for one in known if one is not None}
        if len(found) > 1:
            raise GatewayError(
                errors_pb2.ERROR_REASON_PERMISSION_DENIED,
                "The client certificate names more than one service; give each its own.",
                origin="caller",
            )
        return next(iter(found.values()), None)


def key_needed_too() -> GatewayError:
    """Return what a service is told that calls a model by its certificate alone."""
    return GatewayError(
        errors_pb2.ERROR_REASON_MISSING_API_KEY,
        "A client certificate says which service calls, and calls no model; send `authorization: Bearer tdk_…` with a "
        "TokenDance API key as well.",
        origin="caller",
    )
