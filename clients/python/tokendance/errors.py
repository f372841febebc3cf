"""The gateway's errors in Python: one exception, and the table that the schema carries. Loads no gRPC."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from google.protobuf.descriptor import EnumDescriptor

from tokendance.gateway.v1 import errors_pb2
from tokendance.gateway.v1.errors_pb2 import ErrorReason, ErrorSpec

ERROR_DOMAIN = "gateway.tokendance"
"""The domain of every ErrorInfo that the gateway sends."""

Origin = Literal["gateway", "provider", "caller"]

_PREFIX = "ERROR_REASON_"
_DESCRIPTOR: EnumDescriptor = errors_pb2.DESCRIPTOR.enum_types_by_name["ErrorReason"]


def _read_table() -> dict[int, ErrorSpec]:
    return {
        value.number: value.GetOptions().Extensions[errors_pb2.error]
        for value in _DESCRIPTOR.values
        if value.number != 0
    }


_SPECS = _read_table()
_NAMES = {value.number: value.name.removeprefix(_PREFIX) for value in _DESCRIPTOR.values}
_BY_NAME = {name: number for number, name in _NAMES.items()}
_BY_CODE = {spec.code: number for number, spec in _SPECS.items()}


def table() -> list[tuple[ErrorReason.ValueType, ErrorSpec]]:
    """Return every row of the error table, in the order of the schema."""
    return [(ErrorReason.ValueType(number), spec) for number, spec in _SPECS.items()]


def spec_of(reason: ErrorReason.ValueType) -> ErrorSpec:
    """Return a reason's row; a reason newer than this client reads as internal_error."""
    return _SPECS.get(reason) or _SPECS[errors_pb2.ERROR_REASON_INTERNAL_ERROR]


def name_of(reason: ErrorReason.ValueType) -> str:
    """Return ErrorInfo.reason: the value's name without its prefix, such as `MODEL_NOT_FOUND`."""
    return _NAMES.get(reason, "INTERNAL_ERROR")


def reason_of_name(name: str) -> ErrorReason.ValueType | None:
    """Return the reason whose ErrorInfo.reason is `name`, or None where this client does not know it."""
    number = _BY_NAME.get(name)
    return None if number is None else ErrorReason.ValueType(number)


def reason_of_code(code: str) -> ErrorReason.ValueType | None:
    """Return the reason of a stable snake_case code, or None where this client does not know it."""
    number = _BY_CODE.get(code)
    return None if number is None else ErrorReason.ValueType(number)


class GatewayError(Exception):
    """A call failed, and this says why in terms that never change.

    `message` is one actionable sentence. `param` is the path of the field at fault in the caller's own
    request, such as `messages[0].role`. `retry_after_s` is in whole seconds, 1 to 60, where a time is known.
    Every dynamic part of the message is in `metadata` too (keys in snake_case). `request_id` is what support
    needs.
    """

    def __init__(
        self,
        reason: ErrorReason.ValueType,
        message: str,
        *,
        param: str | None = None,
        retry_after_s: int | None = None,
        metadata: Mapping[str, str] | None = None,
        request_id: str | None = None,
        origin: Origin = "gateway",
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.param = param
        self.retry_after_s = retry_after_s
        self.metadata: dict[str, str] = dict(metadata or {})
        self.request_id = request_id
        self.origin: Origin = origin

    @property
    def spec(self) -> ErrorSpec:
        """The row of the error table."""
        return spec_of(self.reason)

    @property
    def code(self) -> str:
        """The stable code, such as `model_not_found`."""
        return self.spec.code

    @property
    def retryable(self) -> bool:
        """True when the same call, sent again unchanged, may succeed."""
        return self.spec.retryable

    def __str__(self) -> str:
        suffix = f" (request id {self.request_id})" if self.request_id else ""
        return f"{self.code}: {self.message}{suffix}"

    def __repr__(self) -> str:
        where = f"param={self.param!r}, request_id={self.request_id!r}"
        return f"GatewayError({self.code!r}, {self.message!r}, {where})"
