"""How a call that failed ends: the status, and the error's details in metadata that every caller can take."""

from __future__ import annotations

from typing import Any

import grpc
import grpc.aio

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import errors_pb2
from tokendance.ids import new_id
from tokendance.rpc import REQUEST_ID_KEY, STATUS_DETAILS_KEY, status_code, to_status

# Most clients take 8 KiB of metadata and lose the whole error beyond that. The message travels three times: percent
# encoded (up to three bytes for one) as the status message, and in base64 in two of the details.
_MESSAGE_BYTES = 800
_VALUE_BYTES = 256
_VALUES_BYTES = 1024


def ending(error: GatewayError) -> tuple[grpc.StatusCode, str, tuple[tuple[str, str | bytes], ...]]:
    """Return status, message and trailing metadata of a call that ends with `error`, which is shortened to fit."""
    _shorten(error)
    trailing = (
        (REQUEST_ID_KEY, error.request_id or ""),
        (STATUS_DETAILS_KEY, to_status(error).SerializeToString()),
    )
    return status_code(error), error.message, trailing


async def abort(context: grpc.aio.ServicerContext[Any, Any], error: GatewayError) -> None:
    """End the call with `error`. Always raises, as gRPC wants it."""
    await context.abort(*ending(error))


def no_such_method() -> GatewayError:
    """Return the error of a call to a method that is not there."""
    return GatewayError(
        errors_pb2.ERROR_REASON_UNIMPLEMENTED,
        "There is no such method; see the descriptors of tokendance.gateway.v1 for those there are.",
        request_id=new_id("req"),
    )


def _shorten(error: GatewayError) -> None:
    error.message = _at_most(_MESSAGE_BYTES, error.message)
    if error.param is not None:
        error.param = _at_most(_VALUE_BYTES, error.param)
    room = _VALUES_BYTES
    for key, value in list(error.metadata.items()):
        error.metadata[key] = _at_most(_VALUE_BYTES, value)
        room -= len(key) + len(error.metadata[key].encode())
        if room < 0:
            del error.metadata[key]


def _at_most(limit: int, text: str) -> str:
    packed = text.encode("utf-8", "replace")  # a lone surrogate, from an upstream's JSON, is in no message of ours
    if len(packed) <= limit:
        return packed.decode()
    return packed[: limit - 3].decode("utf-8", "ignore") + "…"
