"""How a provider is reached besides its address: through a proxy, trusting further authorities, with a certificate."""

from __future__ import annotations

import os
import ssl
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from tokendance_server.domain.catalogue.models import ProviderConfig

BEYOND_S = 1.0
"""How long a name is looked up that a proxy is to connect to: only the proxy may know it."""

_MOST_CONTEXTS = 256


@dataclass(frozen=True, slots=True)
class Way:
    """What two calls must have in common to share a connection. `proxy` is its host and port, None for none."""

    proxy: tuple[str, int] | None = None
    ca_bundle_pem: str = ""
    client_certificate_pem: str = ""
    client_key: str = field(default="", repr=False)

    @property
    def has_own_tls(self) -> bool:
        """True where certificates are checked, or shown, in another way than the node's own."""
        return bool(self.ca_bundle_pem or self.client_certificate_pem)


def way_of(provider: ProviderConfig) -> Way | None:
    """Return how a provider is reached; None where it is as any other."""
    if not (provider.proxy_url or provider.ca_bundle_pem or provider.client_certificate_pem):
        return None
    proxy = None
    if provider.proxy_url:
        parts = urlsplit(provider.proxy_url)
        proxy = (parts.hostname or "", parts.port or 80)
    return Way(proxy, provider.ca_bundle_pem, provider.client_certificate_pem, provider.client_key)


def check_way(provider: ProviderConfig) -> None:
    """Raise ValueError for a proxy or certificates that cannot be used; the message holds no secret."""
    if provider.proxy_url:
        parts = urlsplit(provider.proxy_url)
        if parts.scheme != "http" or not parts.hostname or parts.username or parts.path or parts.query:
            raise ValueError("proxy_url must be http://HOST:PORT, without a user")
    way = way_of(provider)
    if way is not None and way.has_own_tls:
        open_context(way)


def open_context(way: Way) -> ssl.SSLContext:
    """Return how certificates are checked and shown on a way. Raises ValueError for what is no certificate or key."""
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    if way.ca_bundle_pem:
        try:
            context.load_verify_locations(cadata=way.ca_bundle_pem)
        except (ssl.SSLError, ValueError):
            raise ValueError("ca_bundle_pem holds no certificate in PEM that can be read") from None
    if way.client_certificate_pem:
        _show(context, way)
    return context


def _show(context: ssl.SSLContext, way: Way) -> None:
    """Load the client's certificate and key; the library takes them from a file only, which is gone at once."""
    handle, path = _open_file()
    try:
        os.write(handle, f"{way.client_key.strip()}\n{way.client_certificate_pem.strip()}\n".encode())
        context.load_cert_chain(path, password=lambda: b"")
    except (ssl.SSLError, OSError):
        raise ValueError("client_certificate_pem and its key do not belong together, or cannot be read") from None
    finally:
        os.close(handle)
        if not hasattr(os, "memfd_create"):
            Path(path).unlink()


def _open_file() -> tuple[int, str]:
    """Return a file that only this process sees: in memory where the system can, else for this user alone."""
    if hasattr(os, "memfd_create"):
        handle = os.memfd_create("certificate")
        return handle, f"/proc/self/fd/{handle}"
    return tempfile.mkstemp()


class Contexts:
    """The contexts of ways, each made once: reading what the system trusts takes its time."""

    def __init__(self) -> None:
        self._contexts: dict[Way, ssl.SSLContext] = {}

    def of(self, way: Way) -> ssl.SSLContext:
        """Return the context of a way."""
        found = self._contexts.get(way)
        if found is None:
            if len(self._contexts) >= _MOST_CONTEXTS:
                self._contexts.clear()
            found = self._contexts[way] = open_context(way)
        return found
