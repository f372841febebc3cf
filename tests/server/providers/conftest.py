"""Both clients of upstreams, in turn: what is asked of one is asked of the other."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import get_args

import pytest
from tests.server.providers.byte_servers import LOOPBACK

from tokendance_server.providers.transport import Client, Transport, open_transport

CLIENTS: tuple[Client, ...] = get_args(Client)


@pytest.fixture(params=CLIENTS)
def upstream_client(request: pytest.FixtureRequest) -> Client:
    """The name of a client, as `[server] upstream_client` has it."""
    client: Client = request.param
    return client


@pytest.fixture
async def transport(upstream_client: Client) -> AsyncIterator[Transport]:
    """A transport that is closed afterwards."""
    made = open_transport(upstream_client, LOOPBACK)
    yield made
    await made.close()
