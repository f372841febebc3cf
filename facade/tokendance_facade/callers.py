"""Who calls, as the request itself tells: network address, client kind and version. Asserted to the server."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

from aiohttp.web import BaseRequest

from tokendance.forwarding import is_forwarded
from tokendance.gateway.v1 import caller_pb2, errors_pb2
from tokendance.gateway.v1.errors_pb2 import Surface

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_PRODUCT = re.compile(r"([A-Za-z][\w.+-]*(?:/[A-Za-z]+)?)[/ ]v?(\d[\w.+-]*)")
_KINDS = {
    "openai/python": "openai-python",
    "asyncopenai/python": "openai-python",
    "azureopenai/python": "openai-python",
    "asyncazureopenai/python": "openai-python",
    "openai/js": "openai-node",
    "azureopenai/js": "openai-node",
    "anthropic/python": "anthropic-python",
    "asyncanthropic/python": "anthropic-python",
    "anthropic/js": "anthropic-node",
    "claude-cli": "claude-code",
    "codex_exec": "codex",
    "codex_cli_rs": "codex",
    "codex-tui": "codex",
    "codex_vscode": "codex",
    "codex_sdk_ts": "codex",
}
# What the official SDKs say of their language, as the kinds above write it.
_LANGUAGES = {"python": "python", "js": "node", "java": "java", "go": "go", "ruby": "ruby", "csharp": "dotnet"}
_VERSION = re.compile(r"\d[\w.+-]{0,63}")


class Client(NamedTuple):
    """What a User-Agent says."""

    user_agent: str
    kind: str
    version: str


@lru_cache(maxsize=1024)
def read_user_agent(value: str) -> Client:
    """Return at most 256 printable characters of a User-Agent, and the client's kind and version where it names one."""
    text = _plain(value)
    product = _PRODUCT.match(text)
    if product is None:
        return Client(text, "", "")
    name = product[1].lower()
    return Client(text, _KINDS.get(name, name.replace("/", "-")[:64]), product[2][:64])


def read_client(headers: Mapping[str, str]) -> Client:
    """Return what a request's headers say of its client.

    Where the User-Agent names none that is known, an official SDK below it may still tell of itself.
    """
    client = read_user_agent(headers.get("User-Agent", ""))
    language = _LANGUAGES.get(headers.get("X-Stainless-Lang", "").lower())
    if language is None or client.kind in _KINDS.values():
        return client
    version = _VERSION.fullmatch(headers.get("X-Stainless-Package-Version", ""))
    vendor = "anthropic" if "anthropic-version" in headers else "openai"
    return Client(client.user_agent, f"{vendor}-{language}", version[0] if version is not None else "")


class CallerReader:
    """Reads callers, believing `X-Forwarded-For` only from trusted proxies."""

    def __init__(self, trusted_proxies: tuple[str, ...]) -> None:
        self._trusts_unix = "unix" in trusted_proxies
        self._networks: tuple[Network, ...] = tuple(
            ipaddress.ip_network(entry, strict=False) for entry in trusted_proxies if entry != "unix"
        )

    def read(self, request: BaseRequest, request_id: str, surface: Surface.ValueType, route: str) -> bytes:
        """Return the serialized CallerAssertion of a request."""
        return self.assertion(request, request_id, surface, route).SerializeToString()

    def assertion(
        self, request: BaseRequest, request_id: str, surface: Surface.ValueType, route: str
    ) -> caller_pb2.CallerAssertion:
        """Return what is asserted of the caller of a request."""
        client = read_client(request.headers)
        return caller_pb2.CallerAssertion(
            request_id=request_id,
            surface=surface,
            address=self.address(request),
            user_agent=client.user_agent,
            client_kind=client.kind,
            client_version=client.version,
            http_route=route,
            host=_plain(request.headers.get("Host", "")),
            direct=surface == errors_pb2.SURFACE_ADMIN and not is_forwarded(request.headers),
        )

    def address(self, request: BaseRequest) -> str:
        """Return the caller's address: the peer's, or what the outermost trusted proxy saw."""
        peer = request.transport.get_extra_info("peername") if request.transport is not None else None
        address = peer[0] if isinstance(peer, tuple) else ""
        if not (self._networks or self._trusts_unix) or not self._trusted(address):
            return address
        forwarded = ",".join(request.headers.getall("X-Forwarded-For", ())).split(",")
        for hop in reversed(forwarded):
            candidate = hop.strip()
            if not _is_address(candidate):
                break
            address = candidate
            if not self._trusted(candidate):
                break
        return address

    def _trusted(self, address: str) -> bool:
        if not address:
            return self._trusts_unix
        parsed = ipaddress.ip_address(address.partition("%")[0])
        return any(parsed in network for network in self._networks)


def _plain(value: str) -> str:
    """Return at most 256 characters of what a caller wrote, with a question mark for what is not printable ASCII."""
    text = value[:256]
    if text.isascii() and text.isprintable():
        return text
    return "".join(char if " " <= char <= "~" else "?" for char in text)


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
