"""The facade under test."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from tests.facade.rig import Rig, open_rig


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    """A facade with the usual settings."""
    async with open_rig() as opened:
        yield opened
