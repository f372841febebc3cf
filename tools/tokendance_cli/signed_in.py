"""A client for what people do: with the token of who is signed in, or on the node's own socket as its operator."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tokendance_cli.failures import USAGE, CommandError
from tokendance_cli.node_socket import CALL_TIMEOUT_S, admin_client, told

if TYPE_CHECKING:
    from tokendance import Client

TOKEN_VARIABLE = "TOKENDANCE_ID_TOKEN"  # noqa: S105 - the name of a variable, and no token
_LOOPBACK = ("127.", "localhost:", "[::1]:", "unix:")


@contextmanager
def signed_in_client(data_dir: Path) -> Iterator[Client]:
    """Give a client that sends the token in TOKENDANCE_ID_TOKEN, where there is one; errors come out as CommandError.

    It goes to TOKENDANCE_GRPC_TARGET, over TLS unless that is this machine; without it to the node on `data_dir`.
    """
    token = os.environ.get(TOKEN_VARIABLE, "").strip()
    if not token:
        with admin_client(data_dir) as client:
            yield client
        return
    from tokendance import Client, GatewayError
    from tokendance.connection import TARGET_VARIABLE
    from tokendance_server.stores.paths import find_sockets

    target = os.environ.get(TARGET_VARIABLE, "").strip() or f"unix:{find_sockets(data_dir).admin}"
    credentials = None
    if not target.startswith(_LOOPBACK):
        import grpc

        credentials = grpc.ssl_channel_credentials()
    try:
        opened = Client(target, api_key=token, credentials=credentials, timeout_s=CALL_TIMEOUT_S)
    except ValueError as error:
        raise CommandError(f"{TOKEN_VARIABLE} holds no token; copy it again.", exit_code=USAGE) from error
    with opened as client:
        try:
            yield client
        except GatewayError as error:
            raise told(error) from error
