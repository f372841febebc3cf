"""How calls with an idempotency key are refused."""

from __future__ import annotations

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import errors_pb2


def conflict() -> GatewayError:
    """Return the error for another request under the same key."""
    return GatewayError(
        errors_pb2.ERROR_REASON_IDEMPOTENCY_CONFLICT,
        "This idempotency key came with another request before; use a new key for each different request.",
        param="idempotency_key",
        origin="caller",
    )


def in_progress() -> GatewayError:
    """Return the error for a call that still runs."""
    return GatewayError(
        errors_pb2.ERROR_REASON_IDEMPOTENCY_IN_PROGRESS,
        "A call with this idempotency key is still running; send it again in a moment to get its answer.",
        param="idempotency_key",
        retry_after_s=2,
        origin="caller",
    )


def refused() -> GatewayError:
    """Return the error for an organization that keeps nothing."""
    return GatewayError(
        errors_pb2.ERROR_REASON_UNSUPPORTED_PARAMETER,
        "This organization keeps no answers, by its policy; send the call without an idempotency key.",
        param="idempotency_key",
        origin="caller",
    )


def cannot_tell() -> GatewayError:
    """Return the error for a store that does not answer."""
    return GatewayError(
        errors_pb2.ERROR_REASON_LEDGER_UNAVAILABLE,
        "The gateway cannot tell now whether this idempotency key was used before; try again in a few seconds.",
        retry_after_s=5,
    )


def unreadable() -> GatewayError:
    """Return the error for an answer that does not open."""
    return GatewayError(
        errors_pb2.ERROR_REASON_INTERNAL_ERROR,
        "The answer that was kept for this idempotency key cannot be read; use a new key.",
    )
