"""A client of the node that a command administers: over its own socket, or over TCP as a context says."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from tokendance_cli.announcement import is_local
from tokendance_cli.failures import UNREACHABLE, USAGE, CommandError
from tokendance_cli.node_socket import CALL_TIMEOUT_S, operator_client, told
from tokendance_cli.output import globals_of

if TYPE_CHECKING:
    from tokendance import Client, GatewayError
    from tokendance_cli.contexts import Context

_TARGET_VARIABLE = "TOKENDANCE_GRPC_TARGET"
_SIGN_IN_AGAIN = frozenset({"invalid_id_token"})


@contextmanager
def admin_client(command: typer.Context, data_dir: Path | None = None) -> Iterator[Client]:
    """Give a client of the node that a command is for; errors come out as CommandError.

    `data_dir` is the command's own option. The node on a data directory that was named by hand wins, then the context
    that was named, then the data directory in the environment, then the context in use, then the default directory.
    A token in TOKENDANCE_ID_TOKEN is sent wherever it is; without a context, TOKENDANCE_GRPC_TARGET says where that is.
    """
    from tokendance import GatewayError

    context = _context_of(command, data_dir)
    opening = _own_node(data_dir or globals_of(command).data_dir) if context is None else _tcp_client(context)
    try:
        with opening as client:
            try:
                yield client
            except GatewayError as error:
                raise _told(error, context) from error
    except _NoTokenError as error:
        raise CommandError(
            "The access token holds characters that no token has; copy it again, or sign in again.", exit_code=USAGE
        ) from error


class _NoTokenError(ValueError):
    """What should be an access token is none."""


@contextmanager
def _own_node(data_dir: Path) -> Iterator[Client]:
    """Give a client of this machine's node, as its operator, or as who bears the token in the environment."""
    from tokendance_cli.id_session import TOKEN_VARIABLE

    token = os.environ.get(TOKEN_VARIABLE, "").strip()
    target = os.environ.get(_TARGET_VARIABLE, "").strip() if token else ""
    if target and not target.startswith("unix:"):
        from tokendance_cli.contexts import Context

        with _tcp_client(Context(_TARGET_VARIABLE, target, plaintext=is_local(target))) as client:
            yield client
        return
    _check_token(token)
    with operator_client(data_dir, token) as client:
        yield client


def _check_token(token: str) -> None:
    if not token.isascii() or any(letter <= " " or letter == "\x7f" for letter in token):
        raise _NoTokenError


def _context_of(command: typer.Context, data_dir: Path | None) -> Context | None:
    """Return the context that a command is for, or None for the node of a data directory."""
    from tokendance_cli.contexts import CONTEXT_VARIABLE, load, named

    source = command.find_root().get_parameter_source("data_dir")
    typed = data_dir is not None or (source is not None and source.name == "COMMANDLINE")
    asked = globals_of(command).context
    if typed and asked:
        raise CommandError("--data-dir and --context exclude each other.", exit_code=USAGE)
    if typed:
        return None
    asked = asked or os.environ.get(CONTEXT_VARIABLE, "")
    if asked:
        return named(asked)
    if source is not None and source.name == "ENVIRONMENT":
        return None
    current = load().current
    return named(current) if current else None


@contextmanager
def _tcp_client(context: Context) -> Iterator[Client]:
    import grpc

    from tokendance import Client
    from tokendance_cli.contexts import checked
    from tokendance_cli.id_session import access_token

    context = checked(context)
    token = access_token(context)
    _check_token(token)
    credentials = None if context.plaintext else grpc.ssl_channel_credentials(*_pems(context))
    with Client(context.server, api_key=token, credentials=credentials, timeout_s=CALL_TIMEOUT_S) as client:
        yield client


def _pems(context: Context) -> tuple[bytes | None, bytes | None, bytes | None]:
    """Return what vouches for the server, and this side's key and certificate; raises CommandError."""
    found = []
    for path in (context.ca, context.key, context.certificate):
        try:
            found.append(Path(path).read_bytes() if path else None)
        except OSError as error:
            raise CommandError(f"The file {path} cannot be read: {error.strerror}.", exit_code=USAGE) from error
    return found[0], found[1], found[2]


def _told(error: GatewayError, context: Context | None) -> CommandError:
    if context is not None and "target" in error.metadata:
        return CommandError(
            f"The gateway at {context.server} (context {context.name}) cannot be reached.",
            # gRPC's own words: they tell a wrong certificate from a wrong port.
            error.metadata.get("details", ""),
            "Check the server and its CA with `tokendance context list`, and that its gRPC listener speaks TLS.",
            exit_code=UNREACHABLE,
        )
    failure = told(error)
    if context is not None and error.code in _SIGN_IN_AGAIN:
        failure.hints = (*failure.hints, f"Sign in again: tokendance --context {context.name} login")
    return failure
