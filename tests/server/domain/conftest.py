"""What the tests of the domain share."""

from __future__ import annotations

import pytest
from tests.server.domain.house import House


@pytest.fixture
def house() -> House:
    """Nobody lives there until a test opens it."""
    return House()
