"""A client on the administration socket of the node that runs on a data directory. Nothing here speaks TCP."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tokendance_cli.failures import FAILED, UNREACHABLE, CommandError

if TYPE_CHECKING:
    from tokendance import Client, GatewayError

CALL_TIMEOUT_S = 30
"""How long one call of a command may take, in seconds."""
_CONNECT_TIMEOUT_S = 5


@contextmanager
def operator_client(data_dir: Path, token: str = "") -> Iterator[Client]:
    """Give a client of the node that runs on `data_dir`, as its operator, or as who bears an access token.

    Raises CommandError where no node runs, and ValueError for a token with characters that none has.
    """
    from tokendance_server.stores.paths import find_sockets

    path = find_sockets(data_dir).admin
    _check_listening(path, data_dir)
    from tokendance import Client

    # The socket itself is the credential; a key in the environment is for model calls and stays there.
    with Client(f"unix:{path}", api_key=token, timeout_s=CALL_TIMEOUT_S) as client:
        yield client


def told(error: GatewayError) -> CommandError:
    """Return an answer of the gateway as a command tells it."""
    where = f" ({error.param})" if error.param else ""
    return CommandError(
        f"{error.code}: {error.message}{where}",
        f"Check first: {error.spec.check_first}",
        exit_code=FAILED,
        request_id=error.request_id,
        code=error.code,
    )


def _check_listening(path: Path, data_dir: Path) -> None:
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(_CONNECT_TIMEOUT_S)
        try:
            probe.connect(str(path))
        except PermissionError as error:
            raise CommandError(
                f"You may not use the data directory {data_dir}.", "Run the command as the user that runs the node."
            ) from error
        except OSError as error:
            raise CommandError(
                f"No node is running on the data directory {data_dir}.",
                f"Start one with `tokendance serve --data-dir {data_dir}`, "
                "or name its directory: `tokendance --data-dir DIR …`.",
                exit_code=UNREACHABLE,
            ) from error
