"""RPCs that are declared and not served yet."""

from __future__ import annotations

from typing import Any

import pytest

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import keys_service_pb2, status_service_pb2
from tokendance_server.services.unimplemented import refuse_rest, unimplemented

KEYS = keys_service_pb2.DESCRIPTOR.services_by_name["KeysService"]
STATUS = status_service_pb2.DESCRIPTOR.services_by_name["StatusService"]


async def _ask(servicer: Any, method: Any) -> None:
    answer = getattr(servicer, method.name)(None, None)
    await (anext(answer) if method.server_streaming else answer)


@pytest.mark.parametrize("service", [KEYS, STATUS])
async def test_every_rpc_refuses_in_its_own_name(service: Any) -> None:
    """Unary or streaming, the caller is told which RPC is not served."""
    servicer = unimplemented(service)
    for method in service.methods:
        with pytest.raises(GatewayError) as caught:
            await _ask(servicer, method)
        assert caught.value.code == "unimplemented"
        assert f"{service.name}.{method.name} is not served by this version" in caught.value.message


def test_the_services_tried_here_have_streams_too() -> None:
    """Otherwise half of the module would go untested."""
    assert any(method.server_streaming for method in STATUS.methods)


async def test_what_a_servicer_defines_is_left_alone() -> None:
    """Only the rest is refused."""

    @refuse_rest(KEYS)
    class Servicer:
        async def GetKey(self, request: Any, context: Any) -> str:
            return "served"

    servicer: Any = Servicer()
    assert await servicer.GetKey(None, None) == "served"
    with pytest.raises(GatewayError) as caught:
        await _ask(servicer, KEYS.methods_by_name["RevokeKey"])
    assert caught.value.code == "unimplemented"
