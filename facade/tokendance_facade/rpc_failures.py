"""Failed RPCs as GatewayErrors that callers may see: what a transport says of itself never reaches them."""

from __future__ import annotations

from typing import cast

import grpc
import structlog

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import errors_pb2
from tokendance.rpc import STATUS_DETAILS_KEY, RpcFailure, from_rpc

_log = structlog.get_logger("tokendance_facade")

_BARE = {
    grpc.StatusCode.UNAVAILABLE: "The gateway cannot reach its own server now; retry shortly.",
    grpc.StatusCode.DEADLINE_EXCEEDED: "The call did not complete in the time that it was given.",
    grpc.StatusCode.CANCELLED: "The call was ended before the answer was complete.",
    grpc.StatusCode.RESOURCE_EXHAUSTED: "The gateway cannot take this call now, or it is too large.",
    grpc.StatusCode.UNIMPLEMENTED: "This part of the API is not served by this version.",
}
_OTHERWISE = "The gateway could not complete the call; give the request id to support."


def read_failure(failure: grpc.RpcError, request_id: str) -> GatewayError:
    """Return the error of a failed call. Without details of ours its text is replaced: it may name addresses."""
    call = cast("RpcFailure", failure)
    error = from_rpc(call)
    if error.metadata.get("listener") == "facade":
        # Nothing that a caller did: this facade has a certificate that the server does not take. ServerWatch says so
        # once, and why; here it would be a line for every call.
        return GatewayError(
            errors_pb2.ERROR_REASON_GATEWAY_MISCONFIGURED,
            "The parts of this gateway do not accept each other, so it serves no call; its operator must correct that.",
        )
    pairs = cast("list[tuple[str, object]]", call.trailing_metadata() or ())
    if not any(key == STATUS_DETAILS_KEY for key, _ in pairs):
        _log.warning("rpc_failed", request_id=request_id, status=str(call.code()), details=error.message)
        code = call.code()
        error.message = _BARE.get(code, _OTHERWISE) if code is not None else _OTHERWISE
    return error
