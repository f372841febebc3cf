"""Where a node listens, and whom it believes there."""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tokendance.tls_files import TlsFiles
from tokendance_cli.announcement import is_local
from tokendance_cli.node import Role
from tokendance_cli.preflight.row import Row, State
from tokendance_cli.settings import GatewaySettings
from tokendance_facade.config import FacadeConfig, parse_address
from tokendance_server.config import ServerConfig
from tokendance_server.listeners import is_loopback
from tokendance_server.stores.paths import find_sockets

_CONNECT_S = 1


@dataclass(frozen=True, slots=True)
class _Door:
    """One listener of a process: how its address is set, and the certificate that it shows."""

    part: str
    setting: str
    address: str
    tls: TlsFiles | None = None


def inspect_listeners(settings: GatewaySettings, role: Role) -> Iterator[Row]:
    """Yield one row for each listener: who reaches it, and whether its address and certificate can be used."""
    runs = role is not Role.FACADE and is_running(settings.server.data_dir)
    taken: dict[str, str] = {}
    for door in _doors(settings, role):
        if not door.address:
            yield Row(door.part, State.OFF, "does not listen")
            continue
        twin = "" if door.address.endswith(":0") else taken.setdefault(door.address, door.part)
        trouble = f"the same address as {twin}" if twin not in ("", door.part) else _trouble(door.address)
        unusable = [] if door.tls is None else door.tls.problems()
        if trouble == _TAKEN and runs:
            told = f"{door.address} is taken, perhaps by the node that runs on this data directory"
            yield Row(door.part, State.LIMITED, told)
        elif trouble:
            yield Row(door.part, State.PROBLEM, f"{door.address}: {trouble}", f"choose another with {door.setting}")
        elif unusable:
            yield Row(door.part, State.PROBLEM, "; ".join(unusable), "see its certificate and key")
        else:
            yield _reached_by(door)


def _doors(settings: GatewaySettings, role: Role) -> Iterator[_Door]:
    server, facade = settings.server, settings.facade
    tls = facade.tls.files() if facade.tls else None
    yield _Door("REST", "--http", facade.http if role is not Role.SERVER else "", tls)
    tls = facade.internal_tls.files() if facade.internal_tls else None
    yield _Door("internal", "--internal", facade.internal, tls)
    if role is not Role.FACADE:
        tls = server.tls.files() if server.tls else None
        yield _Door("gRPC", "--grpc", server.grpc, tls)
        tls = server.grpc_public_tls.files() if server.grpc_public_tls else None
        yield _Door("gRPC for callers outside", "--grpc-public", server.grpc_public, tls)
        tls = server.facade_tls.files() if server.facade_tls else None
        yield _Door("gRPC for facades", "server.facade_grpc", server.facade_grpc, tls)


def inspect_reflection(config: ServerConfig) -> Row:
    """Tell whether gRPC describes itself to whoever asks."""
    if not config.grpc:
        return Row("reflection", State.OFF, "there is no gRPC listener")
    local = is_loopback(config.grpc)
    if not (local if config.reflection is None else config.reflection):
        return Row("reflection", State.OFF, "gRPC does not describe itself")
    if local:
        return Row("reflection", State.ON, "gRPC describes itself, on loopback only")
    return Row(
        "reflection",
        State.INSECURE,
        "gRPC describes itself to other machines, without a key",
        "leave server.reflection out, or set it to false",
    )


def inspect_server(settings: GatewaySettings) -> Row:
    """Tell where a facade of its own finds its server."""
    target = settings.facade.server or f"unix:{find_sockets(settings.server.data_dir).facade}"
    if target.startswith("unix:"):
        path = Path(target.removeprefix("unix:").replace("//", "/", 1))
        if path.is_socket():
            return Row("server", State.ON, target)
        return Row("server", State.LIMITED, f"{target} is not there: the facade waits for it", "start the server")
    tls = None if settings.facade.server_tls is None else settings.facade.server_tls.files()
    if tls is None:
        # Beyond this machine the settings themselves ask for certificates.
        return Row("server", State.ON, f"{target}, without TLS on this machine")
    unusable = tls.problems()
    if unusable:
        return Row("server", State.PROBLEM, "; ".join(unusable), "see [facade.server_tls]")
    if mode := open_to_others(tls.key):
        return Row(
            "server", State.INSECURE, f"its key {tls.key} is open to others ({mode:04o})", f"chmod 600 {tls.key}"
        )
    return Row("server", State.ON, f"{target}, with TLS and a certificate of this facade")


def inspect_proxies(config: FacadeConfig) -> Row:
    """Tell whose word counts for the address of a caller."""
    if not config.trusted_proxies:
        return Row("trusted proxies", State.OFF, "X-Forwarded-For is not believed")
    told = ", ".join(config.trusted_proxies)
    for one in config.trusted_proxies:
        if one != "unix" and ipaddress.ip_network(one, strict=False).prefixlen == 0:
            return Row(
                "trusted proxies",
                State.INSECURE,
                f"{told}: every caller may name an address of its choice",
                "name the proxies' own addresses in facade.trusted_proxies",
            )
    return Row("trusted proxies", State.ON, told)


def inspect_cors(config: FacadeConfig) -> Row:
    """Tell which pages may call from a browser."""
    if not config.cors_origins:
        return Row("CORS", State.OFF, "no page calls from a browser")
    if "*" in config.cors_origins:
        return Row(
            "CORS", State.INSECURE, "every page may call from a browser", "name the pages in facade.cors_origins"
        )
    return Row("CORS", State.ON, ", ".join(config.cors_origins))


def open_to_others(file: Path) -> int:
    """Return the mode of a file that others may read or change, else 0."""
    mode = stat.S_IMODE(file.stat().st_mode)
    return mode if mode & (stat.S_IRWXG | stat.S_IRWXO) else 0


def is_running(data_dir: Path) -> bool:
    """Tell whether a node answers on the administration socket of a data directory."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(_CONNECT_S)
        try:
            probe.connect(str(find_sockets(data_dir).admin))
        except OSError:
            return False
        return True


_TAKEN = "the address is taken"


def _reached_by(door: _Door) -> Row:
    if door.tls is not None and (mode := open_to_others(door.tls.key)):
        told = f"{door.address}: its key {door.tls.key} is open to others ({mode:04o})"
        return Row(door.part, State.INSECURE, told, f"chmod 600 {door.tls.key}")
    if door.tls is not None:
        return Row(door.part, State.ON, f"{door.address}, with TLS")
    if is_local(door.address):
        return Row(door.part, State.ON, f"{door.address}, for this machine only")
    if door.part == "internal":
        return Row(
            door.part,
            State.INSECURE,
            f"{door.address}: without TLS, and its metrics are open to other machines",
            "listen on 127.0.0.1, or on a network of the operators alone with [facade.internal_tls]",
        )
    return Row(
        door.part,
        State.INSECURE,
        f"{door.address}: without TLS, keys and prompts can be read on the way",
        "give it a certificate, put a TLS proxy before it, or listen on 127.0.0.1",
    )


def _trouble(address: str) -> str:
    """Return why a node could not listen there, or an empty string. Binds for a moment, and never listens."""
    try:
        place = parse_address(address)
        if isinstance(place, str):
            folder = Path(place).parent
            return "" if os.access(folder, os.W_OK | os.X_OK) else f"{folder} is no directory that you may write to"
        host, port = place
        for family, kind, protocol, _, where in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
            with socket.socket(family, kind, protocol) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(where)
    except socket.gaierror:
        return "the name is not known"
    except PermissionError:
        return "you may not listen there (ports below 1024 are the system's)"
    except OSError as error:
        return _TAKEN if error.errno == errno.EADDRINUSE else "it is no address of this machine"
    return ""
