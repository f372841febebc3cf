"""Who is at the other end of a mutual TLS connection: the gateway's facade, or somebody else with a certificate."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import datetime

from cryptography import x509

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import errors_pb2

_KEPT = 64
_NEVER = 0.0


class FacadePeers:
    """Knows facades by the names in their certificates; `now` tells the time.

    The transport has verified who signed a certificate, and when it was valid; connections outlive it, so its end is
    looked at again with every call.
    """

    def __init__(self, identities: Collection[str], now: Callable[[], datetime]) -> None:
        self._identities = frozenset(identities)
        self._now = now
        self._valid_until: OrderedDict[bytes, float] = OrderedDict()

    def admit(self, authenticated: Mapping[str, Iterable[bytes]]) -> bool:
        """Tell whether the peer of a connection is a facade, from what gRPC's `auth_context` says of it."""
        # Alternative names of the two kinds that name services; an e-mail address never does.
        names = [*authenticated.get("peer_dns", ()), *authenticated.get("peer_uri", ())]
        if self._identities.isdisjoint(name.decode("utf-8", "replace") for name in names):
            return False
        certificate = next(iter(authenticated.get("x509_pem_cert", ())), b"")
        return self._now().timestamp() < self._end_of(certificate)

    def _end_of(self, certificate: bytes) -> float:
        known = self._valid_until.get(certificate)
        if known is None:
            known = self._valid_until[certificate] = _read_end(certificate)
            if len(self._valid_until) > _KEPT:
                self._valid_until.popitem(last=False)
        return known


def not_a_facade() -> GatewayError:
    """Return what a stranger at the facade's listener is told, whatever it calls."""
    return GatewayError(
        errors_pb2.ERROR_REASON_PERMISSION_DENIED,
        "This address is for the gateway's own facade, and the client certificate is not one of a facade's that is "
        "valid now; call the gRPC address instead.",
        metadata={"listener": "facade"},
        origin="caller",
    )


def _read_end(certificate: bytes) -> float:
    try:
        return x509.load_pem_x509_certificate(certificate).not_valid_after_utc.timestamp()
    except ValueError:
        return _NEVER
