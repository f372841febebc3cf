"""How a message comes in over a listener: in time, not too heavy to read, and never with an exception inside gRPC."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import grpc.aio
from google.protobuf.message import DecodeError, Message

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import errors_pb2
from tokendance_server.services.wire_weight import WireWeight, too_heavy

# Stands for a message that was not read, because reading it would take too much.
_HEAVY = object()


def forgiving(deserialize: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    """Return a deserializer that never fails: gRPC's own answer would hold the exception, and its log the stack.

    Nor does it read what would fill the memory. What could not be read raises once `readable` sees it.
    """
    kind: Any = getattr(deserialize, "__self__", None)
    weight = WireWeight(kind) if isinstance(kind, type) and issubclass(kind, Message) else None

    def deserialize_or_none(data: bytes) -> Any:
        if weight is not None and weight.is_heavy(data):
            return _HEAVY
        try:
            return deserialize(data)
        except DecodeError:
            return None

    return deserialize_or_none


async def arrived(context: grpc.aio.ServicerContext[Any, Any], within_s: float) -> Any:
    """Return the one message of a call, as a forgiving deserializer gave it; None where none came.

    Raises invalid_request for one that takes longer: until it is whole, its bytes fill memory.
    """
    try:
        async with asyncio.timeout(within_s):
            message = await context.read()
    except TimeoutError:
        raise GatewayError(
            errors_pb2.ERROR_REASON_INVALID_REQUEST,
            f"The message did not arrive within {within_s:g} s; send it faster.",
            origin="caller",
        ) from None
    return None if message is grpc.aio.EOF else message


def readable(request: Any) -> Any:
    """Return a message that could be read. Raises invalid_request."""
    if request is _HEAVY:
        raise too_heavy()
    if request is None:
        raise GatewayError(
            errors_pb2.ERROR_REASON_INVALID_REQUEST,
            "The message cannot be read; encode it as the schema of this method says, with texts in UTF-8.",
            origin="caller",
        )
    return request
