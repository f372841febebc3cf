"""The RPC edge, over both channels and with the trust that a test asks for."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.server.services.edge import KINDS, Edge, open_edge
from tests.server.services.office import Office, opened


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    """The kind of channel: in process, or gRPC over a socket."""
    return str(request.param)


@pytest.fixture
async def edge(kind: str) -> AsyncIterator[Edge]:
    """An edge that trusts nobody, over either kind of channel."""
    async with open_edge(kind) as opened:
        yield opened


@pytest.fixture
async def office(kind: str, tmp_path: Path) -> AsyncIterator[Office]:
    """The service as the operator reaches it, over either kind of channel."""
    async with opened(tmp_path, kind=kind) as made:
        yield made
