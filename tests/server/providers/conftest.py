"""Both clients of upstreams, in turn: what is asked of one is asked of the other."""

from __future__ import annotations

from typing import get_args

import pytest

from tokendance_server.providers.transport import Client

CLIENTS: tuple[Client, ...] = get_args(Client)


@pytest.fixture(params=CLIENTS)
def upstream_client(request: pytest.FixtureRequest) -> Client:
    """The name of a client, as `[server] upstream_client` has it."""
    client: Client = request.param
    return client
