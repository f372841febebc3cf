"""RPCs that the schema declares and this version does not serve yet: each answers so, in one sentence."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import errors_pb2


def unimplemented(service: ServiceDescriptor) -> Any:
    """Return a servicer that refuses every RPC of `service`."""
    return type(service.name, (), {method.name: refusal(method) for method in service.methods})()


def refusal(method: MethodDescriptor) -> Any:
    """Return the method of a servicer that refuses one RPC, with unimplemented."""

    def error() -> GatewayError:
        return GatewayError(
            errors_pb2.ERROR_REASON_UNIMPLEMENTED,
            f"{method.containing_service.name}.{method.name} is not served by this version of the gateway.",
            metadata={"method": f"/{method.containing_service.full_name}/{method.name}"},
        )

    async def refuse(_servicer: Any, _request: Any, _context: Any) -> Any:
        raise error()

    async def refuse_stream(_servicer: Any, _request: Any, _context: Any) -> AsyncIterator[Any]:
        answers: list[Any] = []  # the loop makes this the generator that a channel expects
        for answer in answers:
            yield answer
        raise error()

    return refuse_stream if method.server_streaming else refuse
