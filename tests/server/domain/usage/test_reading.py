"""Who finds a call that was turned away before anybody knew whose it was."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from tests.server.domain.meters import NOW

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import access_pb2, errors_pb2
from tokendance_server.domain.clock import ManualClock
from tokendance_server.domain.principals import Principal
from tokendance_server.domain.usage.entries import FinishedEntry, OpenRequest
from tokendance_server.domain.usage.reading import UsageReader
from tokendance_server.domain.usage.refusals import TurnedAway

ACME = "organizations/org_acme"
OPERATOR = Principal(kinds=frozenset({access_pb2.CALLER_KIND_PLATFORM_ADMIN}), name="local-operator")


class Nothing:
    """A store without a record, and a drain with nothing in it."""

    async def find(self, wanted: str, organization_id: str, most: int) -> Sequence[FinishedEntry]:
        return ()

    async def flush(self) -> None:
        return None


@pytest.fixture
def reader() -> UsageReader:
    """Reads of a node that turned one call away."""
    turned_away = TurnedAway("node_1", ManualClock(NOW))
    request = OpenRequest(request_id="req_1", start_us=1, organization_id="")
    turned_away.note(request, errors_pb2.ERROR_REASON_INVALID_API_KEY, "No.")
    nothing: Any = Nothing()
    return UsageReader(nothing, nothing, turned_away)


async def test_the_platform_finds_it_by_its_id_alone(reader: UsageReader) -> None:
    """It is of no organization, so no organization's name leads to it."""
    assert (await reader.request(OPERATOR, "req_1")).message == "No."
    for other in ("req_2", f"{ACME}/requests/req_1"):
        with pytest.raises(GatewayError) as missing:
            await reader.request(OPERATOR, other)
        assert missing.value.code == "not_found"


@pytest.mark.parametrize(
    "kind",
    [
        access_pb2.CALLER_KIND_ORGANIZATION_ADMIN,
        access_pb2.CALLER_KIND_AUDITOR,
        access_pb2.CALLER_KIND_MEMBER,
        access_pb2.CALLER_KIND_API_KEY,
    ],
)
async def test_nobody_else_finds_it(reader: UsageReader, kind: access_pb2.CallerKind.ValueType) -> None:
    """Its address is somebody's, and nobody knows whose."""
    caller = Principal(kinds=frozenset({kind}), name=f"{ACME}/members/user_1", organization=ACME)
    with pytest.raises(GatewayError) as missing:
        await reader.request(caller, "req_1")
    assert missing.value.code == "not_found"
