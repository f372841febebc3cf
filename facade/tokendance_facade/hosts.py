"""The Host header: whoever names the host that it calls names a host, and perhaps a port."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import errors_pb2

_HOST = re.compile(r"(?:[A-Za-z0-9._~-]{1,255}|\[[0-9A-Fa-f:.]{2,64}\])(?::(\d{0,5}))?")
_MOST_PORT = 65_535


def check_host(headers: Mapping[str, str]) -> None:
    """Raise invalid_request where the Host header is there and is not a host, perhaps with a port (RFC 9110, 7.2)."""
    # HTTP/1.0 knows no Host header; the parser refuses HTTP/1.1 without one.
    host = headers.get("Host")
    if host is not None and not _is_host(host):
        raise GatewayError(
            errors_pb2.ERROR_REASON_INVALID_REQUEST, "The Host header is not a host name.", origin="caller"
        )


@lru_cache(maxsize=1024)
def _is_host(value: str) -> bool:
    found = _HOST.fullmatch(value)
    return found is not None and int(found[1] or 0) <= _MOST_PORT
