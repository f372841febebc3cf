"""RPCs that the schema declares and this version does not serve yet: each answers so, in one sentence."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any, TypeVar

from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import errors_pb2

Servicer = TypeVar("Servicer", bound=type)


def refuse_rest(service: ServiceDescriptor) -> Callable[[Servicer], Servicer]:
    """Return a class decorator that lets a servicer refuse every RPC of `service` that none of its parts defines."""

    def complete(servicer: Servicer) -> Servicer:
        # The generated base has them all, and says nothing of which.
        own = [part for part in servicer.__mro__ if not part.__module__.endswith("_pb2_grpc")]
        for method in service.methods:
            if not any(method.name in vars(part) for part in own):
                setattr(servicer, method.name, _refusal(method))
        return servicer

    return complete


def unimplemented(service: ServiceDescriptor) -> Any:
    """Return a servicer that refuses every RPC of `service`."""
    return refuse_rest(service)(type(service.name, (), {}))()


def _refusal(method: MethodDescriptor) -> Callable[[Any, Any, Any], Any]:
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
