"""What a node says when it is up: where it listens, its first key, and a call to try."""

from __future__ import annotations

import ipaddress
import shlex
from pathlib import Path
from urllib.parse import urlsplit

_LABEL_WIDTH = 10


def addresses(
    http_url: str,
    internal_url: str,
    grpc_address: str,
    data_dir: Path | None,
    facade_address: str = "",
    *,
    public_address: str = "",
) -> str:
    """Return the lines that tell where the node listens; what it does not have is left out."""
    lines = ["TokenDance Gateway is ready."]
    for label, value in (
        ("REST", _api(http_url)),
        ("internal", f"{internal_url}  (console, metrics and health)" if internal_url else ""),
        ("gRPC", grpc_address),
        ("outside", f"{public_address}  (gRPC, for callers outside)" if public_address else ""),
        ("facades", f"{facade_address}  (with their certificate only)" if facade_address else ""),
        ("data", "" if data_dir is None else str(data_dir.resolve())),
    ):
        if value:
            lines.append(f"  {label:<{_LABEL_WIDTH}}{value}")
    return "\n".join(lines)


def first_key(organization: str, secret: str, key_file: Path | None) -> str:
    """Return the lines that show the first key, or name the file where it is."""
    if key_file is not None:
        return f"The first API key of {organization} is in {key_file}."
    return f"The first API key of {organization}, shown this once:\n\n  export TOKENDANCE_API_KEY={secret}"


def console_line(link: str) -> str:
    """Return the lines that lead into the console."""
    return f"Sign in to the console, once and within five minutes (again with `tokendance console`):\n\n  {link}"


def curl_line(http_url: str, model: str, secret: str | None, key_file: Path | None) -> str:
    """Return one command that works as pasted; without secret and file the key comes from the environment."""
    key = secret or "$TOKENDANCE_API_KEY"
    if key_file is not None:
        key = f"$(cat {shlex.quote(str(key_file.resolve()))})"
    body = f'{{"model": "{model}", "messages": [{{"role": "user", "content": "Hello"}}]}}'
    base = _api(http_url)
    where = shlex.quote(f"{base}/chat/completions")
    if http_url.startswith("unix:"):
        where = f"--unix-socket {shlex.quote(urlsplit(http_url).path)} http://localhost/v1/chat/completions"
    return f"curl {where} -H \"Authorization: Bearer {key}\" -H 'Content-Type: application/json' -d {shlex.quote(body)}"


def open_addresses(http_url: str, internal_url: str, grpc_address: str, public_address: str = "") -> list[str]:
    """Return a warning for each address without TLS that other machines reach; the gRPC addresses are ones without."""
    warnings = []
    for label, address, table in (
        ("REST", http_url, "[facade.tls]"),
        ("The internal listener", internal_url, "[facade.internal_tls]"),
        ("gRPC", grpc_address, "[server.tls]"),
        ("gRPC for callers outside", public_address, "[server.grpc_public_tls]"),
    ):
        if address and not address.startswith("https:") and not is_local(address):
            carried = "access tokens and metrics" if address == internal_url else "keys and prompts"
            warnings.append(
                f"{label} listens on {address} without TLS: {carried} can be read on the way. "
                f"Give it a certificate in {table}, put a TLS proxy before it, or listen on 127.0.0.1."
            )
    return warnings


def unbelieved(server: str) -> str:
    """Return the warning of a facade that reaches its server over TCP without certificates."""
    return (
        f"The server at {server} does not believe who the callers are: it takes this facade's own address for theirs, "
        "also where a key is limited to networks. Name its facade.sock as unix:///PATH, or use [facade.server_tls]."
    )


def _api(http_url: str) -> str:
    """Return the base URL of the API, by an address that one can connect to."""
    if not http_url or http_url.startswith("unix:"):
        return http_url
    reachable = http_url.replace("//0.0.0.0:", "//127.0.0.1:").replace("//[::]:", "//[::1]:")
    return f"{reachable.rstrip('/').removesuffix('/v1')}/v1"


def is_local(address: str) -> bool:
    """Tell whether only this machine reaches an address: `host:port`, a URL, or `unix:`."""
    if address.startswith("unix:"):
        return True
    host = urlsplit(address if "//" in address else f"//{address}").hostname or ""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
