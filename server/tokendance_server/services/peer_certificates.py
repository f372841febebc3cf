"""The names in the certificate at the other end of a mutual TLS connection, for as long as it is valid."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime

from cryptography import x509

_KEPT = 64
_NEVER = 0.0


class PeerCertificates:
    """Reads who is at the other end from what gRPC's `auth_context` says; `now` tells the time.

    The transport has verified who signed a certificate, and when it was valid; connections outlive it, so its end is
    looked at again with every call.
    """

    def __init__(self, now: Callable[[], datetime]) -> None:
        self._now = now
        self._valid_until: OrderedDict[bytes, float] = OrderedDict()

    def names(self, authenticated: Mapping[str, Iterable[bytes]]) -> list[str]:
        """Return the DNS names and URIs of a certificate that is valid now, else nothing."""
        # Alternative names of the two kinds that name services; an e-mail address never does.
        found = [*authenticated.get("peer_dns", ()), *authenticated.get("peer_uri", ())]
        if not found:
            return []
        certificate = next(iter(authenticated.get("x509_pem_cert", ())), b"")
        if self._now().timestamp() >= self._end_of(certificate):
            return []
        return [name.decode("utf-8", "replace") for name in found]

    def _end_of(self, certificate: bytes) -> float:
        known = self._valid_until.get(certificate)
        if known is None:
            known = self._valid_until[certificate] = _read_end(certificate)
            if len(self._valid_until) > _KEPT:
                self._valid_until.popitem(last=False)
        return known


def _read_end(certificate: bytes) -> float:
    try:
        return x509.load_pem_x509_certificate(certificate).not_valid_after_utc.timestamp()
    except ValueError:
        return _NEVER
