"""The facade's settings: frozen, typed, checked whole at start."""

from __future__ import annotations

import ipaddress
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, field_validator

MiB = 1024 * 1024
Seconds = Annotated[float, Field(gt=0, le=86_400)]


class FacadeConfig(BaseModel):
    """Table [facade]. Addresses are `host:port`, `[ipv6]:port` or `unix:///path`; port 0 picks a free one.

    `server` is the gRPC target of a server in another process, empty where it runs in this one. `public_base_url` is
    what callers use as base URL, empty where it is the bound address. `X-Forwarded-For` is believed only from
    `trusted_proxies` (addresses or networks; `unix` for a Unix socket). `linger_s` is how long the rest of a refused
    body is read, so that its sender sees the answer. A caller that takes next to nothing of an answer for
    `write_timeout_s` is given up. Times in seconds, sizes in bytes.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    http: str = "127.0.0.1:8080"
    internal: str = "127.0.0.1:8081"
    server: str = ""
    public_base_url: str = Field(default="", max_length=2048)
    trusted_proxies: tuple[str, ...] = ()
    cors_origins: tuple[str, ...] = ()
    max_body_bytes: int = Field(default=32 * MiB, ge=1024)
    max_header_bytes: int = Field(default=32 * 1024, ge=8 * 1024)
    head_timeout_s: Seconds = 15
    body_idle_timeout_s: Seconds = 20
    body_timeout_s: Seconds = 300
    linger_s: Seconds = 5
    idle_connection_s: Seconds = 75
    write_timeout_s: Seconds = 60
    unary_timeout_s: Seconds = 600
    stream_timeout_s: Seconds = 3600
    models_timeout_s: Seconds = 30
    stream_headers_after_s: Seconds = 10
    keepalive_s: Seconds = 15

    @field_validator("http", "internal")
    @classmethod
    def _check_address(cls, value: str) -> str:
        parse_address(value)
        return value

    @field_validator("trusted_proxies")
    @classmethod
    def _check_proxies(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for entry in value:
            if entry != "unix":
                ipaddress.ip_network(entry, strict=False)
        return value

    @field_validator("cors_origins")
    @classmethod
    def _check_origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for origin in value:
            if origin != "*" and (not origin.startswith(("http://", "https://")) or origin.count("/") != 2):
                raise ValueError("an origin is `https://host` without a path, or `*` for all")
        return value


def parse_address(address: str) -> tuple[str, int] | str:
    """Return host and port of an address, or the path of a Unix socket. Raises ValueError."""
    if address.startswith("unix://"):
        path = address.removeprefix("unix://")
        if not path.startswith("/"):
            raise ValueError("a Unix socket is given as unix:///absolute/path")
        return path
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65_535:
        raise ValueError("an address is given as host:port, such as 127.0.0.1:8080")
    return host.removeprefix("[").removesuffix("]"), int(port)
