"""Where webhooks may lead: https, to what the egress policy lets pass; http only to this very host where it is open."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from tokendance_server.domain.egress import EgressPolicy, EgressRefusedError


def check_target(url: str, egress: EgressPolicy) -> None:
    """Let the address of a webhook pass, as far as its text tells. Raises EgressRefusedError."""
    egress.check_url(url)
    parts = urlsplit(url)
    if parts.scheme == "https":
        return
    if not egress.allow_loopback or not _is_loopback(parts.hostname or ""):
        raise EgressRefusedError("the address of a webhook must be https://")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
