"""What callers are told where an upstream cannot be asked, or gives no answer that can be used. No host is named."""

from __future__ import annotations

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import errors_pb2
from tokendance.gateway.v1.errors_pb2 import ErrorReason


def unavailable() -> GatewayError:
    """Return the error for a connection that does not come about."""
    return GatewayError(
        errors_pb2.ERROR_REASON_PROVIDER_UNAVAILABLE,
        "The model's provider cannot be reached at the moment; send the request again later, or use another model.",
        retry_after_s=1,
        origin="provider",
    )


def broken() -> GatewayError:
    """Return the error for what is no answer."""
    return _error(
        errors_pb2.ERROR_REASON_PROVIDER_ERROR,
        "The model's provider sent no answer that can be read; send the request again.",
    )


def broken_off(reason: ErrorReason.ValueType) -> GatewayError:
    """Return the error for an answer that ended before its end; `reason` says what that means to the reader."""
    return _error(reason, "The answer of the model's provider broke off; send the request again.")


def too_large() -> GatewayError:
    """Return the error for an answer over the limit."""
    return _error(
        errors_pb2.ERROR_REASON_PROVIDER_ERROR,
        "The answer of the model's provider is larger than the gateway takes; ask for less.",
    )


def deadline_passed() -> GatewayError:
    """Return the error for a wait that the caller's deadline ended."""
    return _error(
        errors_pb2.ERROR_REASON_DEADLINE_EXCEEDED,
        "The deadline of the call passed before the model's provider had answered; allow more time, or stream.",
    )


def timed_out() -> GatewayError:
    """Return the error for a wait that the provider's own times ended."""
    return _error(
        errors_pb2.ERROR_REASON_PROVIDER_TIMEOUT,
        "The model's provider did not answer in time; send the request again.",
    )


def _error(reason: ErrorReason.ValueType, message: str) -> GatewayError:
    return GatewayError(reason, message, origin="provider")
