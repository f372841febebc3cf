"""The facade's settings: frozen, typed, checked whole at start."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from tokendance.tls_files import TlsFiles

MiB = 1024 * 1024
Seconds = Annotated[float, Field(gt=0, le=86_400)]


class TlsConfig(BaseModel):
    """Table [facade.tls]: the certificate of the public listener, with its chain, and its private key, both in PEM."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    certificate: Path
    key: Path

    def files(self) -> TlsFiles:
        """Return the files that the listener presents."""
        return TlsFiles(self.certificate, self.key)


class ServerTlsConfig(TlsConfig):
    """Table [facade.server_tls]: the facade's own certificate, and whose server it trusts.

    `ca` signed the server's certificate, which names `server_name`, or without it the host of `server`.
    """

    ca: Path
    server_name: str = Field(default="", max_length=253)

    def files(self) -> TlsFiles:
        """Return the files that the facade presents and checks the server with."""
        return TlsFiles(self.certificate, self.key, self.ca)


class SiteConfig(BaseModel):
    """Table [facade.site]: what the public pages call themselves, and what they may not say.

    `console_url` is where people sign in to administer, and `support` how to reach support, an address or a sentence;
    empty: the pages name none. `private_names` are words for parts of the gateway that no public text may hold: in
    what operators write about models, incidents and maintenance the pages put another word in their place.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    brand: str = Field(default="TokenDance Gateway", min_length=1, max_length=60)
    console_url: str = Field(default="", max_length=2048)
    support: str = Field(default="", max_length=300)
    private_names: tuple[Annotated[str, Field(min_length=2, max_length=60)], ...] = (
        *("NewAPI", "MetAPI", "Codex2API", "Portal", "mihomo", "proxy-gateway"),
        *("Redis", "Valkey", "PostgreSQL", "asyncpg", "SQLite", "SQLAlchemy", "Alembic", "aiohttp", "uvloop", "Jinja"),
        *("tokendance_server", "tokendance_facade", "tokendance_cli"),
    )

    @field_validator("console_url")
    @classmethod
    def _check_console(cls, value: str) -> str:
        if value and not value.startswith(("https://", "http://")):
            raise ValueError("the address of the console begins with https://")
        return value


class ConsoleConfig(BaseModel):
    """Table [facade.console]: the console on the internal listener, and under which names people reach it.

    `url` is what they type, such as `https://console.internal.example`, where something stands before the listener;
    empty: the listener's own address. `hosts` are further values of the Host header, with their port; any other is
    refused, so that no stranger's page can have a name of its own lead here. Reveals, credentials of providers and
    roles need a sign-in of the last `fresh_s` seconds.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    enabled: bool = True
    url: str = Field(default="", max_length=2048)
    hosts: tuple[Annotated[str, Field(min_length=1, max_length=260)], ...] = ()
    fresh_s: float = Field(default=900, ge=60, le=86_400)

    @field_validator("url")
    @classmethod
    def _check_url(cls, value: str) -> str:
        parts = urlsplit(value)
        if value and (parts.scheme not in ("http", "https") or not parts.hostname or parts.path not in ("", "/")):
            raise ValueError("the address of the console is https://HOST, without a path")
        if value and parts.scheme == "http" and not is_loopback(f"{parts.hostname}:0"):
            raise ValueError("the address of the console begins with https://, except on this machine itself")
        return value.rstrip("/")


class FacadeConfig(BaseModel):
    """Table [facade]. Addresses are `host:port`, `[ipv6]:port` or `unix:///path`; port 0 picks a free one.

    `server` is the gRPC target of a server in another process, empty where it runs in this one; over TCP it needs
    `server_tls`, beyond this machine always. With `tls` the public listener speaks TLS, with `internal_tls` the
    internal one. `public_base_url` is what callers use as base URL, empty where it is the bound address.
    `X-Forwarded-For` is believed only from `trusted_proxies` (addresses or networks; `unix` for a Unix socket).
    `linger_s` is how long the rest of a refused body is read, so that its sender sees the answer. A caller that takes
    next to nothing of an answer for `write_timeout_s` is given up. Times in seconds, sizes in bytes.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    http: str = "127.0.0.1:8080"
    internal: str = "127.0.0.1:8081"
    tls: TlsConfig | None = None
    internal_tls: TlsConfig | None = None
    server: str = ""
    server_tls: ServerTlsConfig | None = None
    public_base_url: str = Field(default="", max_length=2048)
    site: SiteConfig = SiteConfig()
    console: ConsoleConfig = ConsoleConfig()
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
    admin_timeout_s: Seconds = 30
    stream_headers_after_s: Seconds = 10
    keepalive_s: Seconds = 15

    @field_validator("http", "internal")
    @classmethod
    def _check_address(cls, value: str) -> str:
        parse_address(value)
        return value

    @field_validator("server")
    @classmethod
    def _check_server(cls, value: str) -> str:
        if value and not value.startswith("unix:"):
            address = parse_address(value)
            if "/" in value:
                raise ValueError("a server is given as host:port, or as unix:///absolute/path")
            if address[1] == 0:
                raise ValueError("the port of the server is needed, such as gateway.internal:50052")
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

    @model_validator(mode="after")
    def _check_assertions(self) -> FacadeConfig:
        over_tcp = bool(self.server) and not self.server.startswith("unix:")
        if over_tcp and self.server_tls is None and not is_loopback(self.server):
            raise ValueError(
                f"server: {self.server} is another machine, and without [facade.server_tls] that server would not "
                "believe who the callers are (their address and request id), and keys and prompts could be read on "
                "the way; see docs/operations/split.md"
            )
        if self.server_tls is not None and not over_tcp:
            raise ValueError("[facade.server_tls] needs server, the HOST:PORT of the server's facade_grpc")
        if self.tls is not None and self.http.startswith("unix:"):
            raise ValueError("[facade.tls] needs http as HOST:PORT; a Unix socket has no TLS")
        if self.internal_tls is not None and self.internal.startswith("unix:"):
            raise ValueError("[facade.internal_tls] needs internal as HOST:PORT; a Unix socket has no TLS")
        return self


def is_loopback(address: str) -> bool:
    """Tell whether a `host:port` can only be this machine."""
    host = address.rpartition(":")[0].removeprefix("[").removesuffix("]")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


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
