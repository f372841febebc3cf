"""Under which names the console is reached: everything else is refused, so that no stranger's name leads here."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from urllib.parse import urlsplit

from aiohttp.web import BaseRequest

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import errors_pb2
from tokendance_facade.config import ConsoleConfig, is_loopback


class Origins:
    """Knows the origins of the console. `bound` returns the address of the listener, such as `http://127.0.0.1:8081`."""

    def __init__(self, config: ConsoleConfig, bound: Callable[[], str]) -> None:
        self._config = config
        self._bound = bound

    def of(self, request: BaseRequest) -> str:
        """Return the origin under which a request came, such as `https://console.example`.

        Raises invalid_request for a host that is none of the console's, and gateway_misconfigured where a session
        would travel in plain text beyond this machine.
        """
        host = request.headers.get("Host", "").lower()
        wanted = self._config.url
        if wanted and host == urlsplit(wanted).netloc.lower():
            return wanted
        bound = urlsplit(self._bound())
        if host not in self._hosts(bound.hostname or "", bound.port or 0):
            raise GatewayError(
                errors_pb2.ERROR_REASON_INVALID_REQUEST,
                "The console is not reached under this host name; its operator can name it in [facade.console] hosts.",
                origin="caller",
            )
        if bound.scheme != "https" and not is_loopback(host if ":" in host else f"{host}:80"):
            raise GatewayError(
                errors_pb2.ERROR_REASON_GATEWAY_MISCONFIGURED,
                "The console needs TLS beyond its own machine: set [facade.internal_tls], or url in [facade.console] "
                "to the https:// address of what stands before it.",
            )
        return f"{bound.scheme}://{host}"

    def _hosts(self, host: str, port: int) -> set[str]:
        known = {one.lower() for one in self._config.hosts}
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            return known | {f"{host}:{port}"}
        if address.is_loopback or address.is_unspecified:
            known |= {f"127.0.0.1:{port}", f"localhost:{port}", f"[::1]:{port}"}
        if not address.is_unspecified:
            known.add(f"[{host}]:{port}" if address.version == 6 else f"{host}:{port}")
        return known
