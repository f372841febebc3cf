"""GatewayError to google.rpc.Status and back: the only place that knows how an error travels over gRPC."""

from __future__ import annotations

from typing import Protocol, cast

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]  # ships no types

from tokendance.errors import ERROR_DOMAIN, GatewayError, Origin, name_of, reason_of_name
from tokendance.gateway.v1 import errors_pb2
from tokendance.gateway.v1.errors_pb2 import ErrorReason

STATUS_DETAILS_KEY = "grpc-status-details-bin"
REQUEST_ID_KEY = "x-request-id"
CALLER_KEY = "x-tokendance-caller-bin"
ACCOUNT_KEY = "x-tokendance-account-bin"
"""What a model call cost and leaves of its limits, behind its answer: a serialized `CallAccount`."""

# What a bare gRPC status means where no ErrorInfo came: the transport's own errors, or an intermediary's.
_REASON_OF_STATUS: dict[int, ErrorReason.ValueType] = {
    1: errors_pb2.ERROR_REASON_CANCELLED,
    3: errors_pb2.ERROR_REASON_INVALID_REQUEST,
    4: errors_pb2.ERROR_REASON_DEADLINE_EXCEEDED,
    5: errors_pb2.ERROR_REASON_NOT_FOUND,
    6: errors_pb2.ERROR_REASON_ALREADY_EXISTS,
    7: errors_pb2.ERROR_REASON_PERMISSION_DENIED,
    8: errors_pb2.ERROR_REASON_REQUEST_TOO_LARGE,  # all refusals of ours are typed; gRPC's own are about sizes
    9: errors_pb2.ERROR_REASON_FAILED_PRECONDITION,
    10: errors_pb2.ERROR_REASON_VERSION_CONFLICT,
    12: errors_pb2.ERROR_REASON_UNIMPLEMENTED,
    14: errors_pb2.ERROR_REASON_SERVICE_STOPPING,
    16: errors_pb2.ERROR_REASON_INVALID_API_KEY,
}

_STATUS_CODES: dict[int, grpc.StatusCode] = {int(code.value[0]): code for code in grpc.StatusCode}


class RpcFailure(Protocol):
    """What grpc.RpcError and grpc.aio.AioRpcError have in common once a call has failed."""

    def code(self) -> grpc.StatusCode | None:
        """Return the status."""

    def details(self) -> str | None:
        """Return the message."""

    def trailing_metadata(self) -> object:
        """Return the trailing metadata: pairs of key and value."""


def status_code(error: GatewayError) -> grpc.StatusCode:
    """Return the gRPC status of an error, as the table says."""
    return _STATUS_CODES[error.spec.grpc_status]


def to_status(error: GatewayError) -> status_pb2.Status:
    """Pack an error: ErrorInfo always; RequestInfo, RetryInfo and BadRequest where they tell something."""
    info = error_details_pb2.ErrorInfo(reason=name_of(error.reason), domain=ERROR_DOMAIN, metadata=error.metadata)
    info.metadata["origin"] = error.origin
    details: list[AnyMessage] = [_pack(info)]
    if error.request_id:
        details.append(_pack(error_details_pb2.RequestInfo(request_id=error.request_id)))
    if error.retry_after_s is not None:
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromSeconds(error.retry_after_s)
        details.append(_pack(retry))
    if error.param is not None:
        violation = error_details_pb2.BadRequest.FieldViolation(field=error.param, description=error.message)
        details.append(_pack(error_details_pb2.BadRequest(field_violations=[violation])))
    return status_pb2.Status(code=error.spec.grpc_status, message=error.message, details=details)


def from_status(status: status_pb2.Status) -> GatewayError:
    """Unpack an error. Without our ErrorInfo, or with a reason newer than this client, the code decides."""
    reason = _REASON_OF_STATUS.get(status.code, errors_pb2.ERROR_REASON_INTERNAL_ERROR)
    error = GatewayError(reason, status.message)
    for detail in status.details:
        if detail.Is(error_details_pb2.ErrorInfo.DESCRIPTOR):
            _read_info(detail, error)
        elif detail.Is(error_details_pb2.RequestInfo.DESCRIPTOR):
            request = error_details_pb2.RequestInfo()
            detail.Unpack(request)
            error.request_id = request.request_id or None
        elif detail.Is(error_details_pb2.RetryInfo.DESCRIPTOR):
            retry = error_details_pb2.RetryInfo()
            detail.Unpack(retry)
            error.retry_after_s = retry.retry_delay.ToSeconds()
        elif detail.Is(error_details_pb2.BadRequest.DESCRIPTOR):
            bad = error_details_pb2.BadRequest()
            detail.Unpack(bad)
            if bad.field_violations:
                error.param = bad.field_violations[0].field
    return error


def from_rpc(failure: RpcFailure) -> GatewayError:
    """Read the error of a failed call, sync or async, from its status details or, without them, its code."""
    metadata = dict(_pairs(failure.trailing_metadata()))
    packed = metadata.get(STATUS_DETAILS_KEY)
    status = _parsed(packed) if isinstance(packed, bytes) else None
    if status is None:
        code = failure.code() or grpc.StatusCode.UNKNOWN
        status = status_pb2.Status(code=code.value[0], message=failure.details() or code.name)
    error = from_status(status)
    if error.request_id is None:
        request_id = metadata.get(REQUEST_ID_KEY)
        error.request_id = request_id if isinstance(request_id, str) else None
    return error


def _parsed(packed: bytes) -> status_pb2.Status | None:
    try:
        return status_pb2.Status.FromString(packed)
    except DecodeError:
        # An intermediary's; the code still tells what happened.
        return None


def _pack(message: object) -> AnyMessage:
    packed = AnyMessage()
    packed.Pack(message)  # type: ignore[arg-type]
    return packed


def _read_info(detail: AnyMessage, error: GatewayError) -> None:
    info = error_details_pb2.ErrorInfo()
    detail.Unpack(info)
    if info.domain != ERROR_DOMAIN:
        return
    error.metadata = dict(info.metadata)
    origin = error.metadata.pop("origin", "gateway")
    if origin in ("gateway", "provider", "caller"):
        error.origin = cast("Origin", origin)
    known = reason_of_name(info.reason)
    if known is not None:
        error.reason = known


def _pairs(metadata: object) -> list[tuple[str, str | bytes]]:
    if metadata is None:
        return []
    return [(str(pair[0]), pair[1]) for pair in cast("list[tuple[str, str | bytes]]", metadata)]
