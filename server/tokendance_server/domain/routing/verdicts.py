"""What an error says of the upstream that it came from: pure, from its reason and the HTTP status that was seen."""

from __future__ import annotations

import enum

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import errors_pb2


class Verdict(enum.Enum):
    """What an attempt that gave no answer tells."""

    LIMITED = enum.auto()
    """The credential is limited now."""
    REFUSED = enum.auto()
    """The provider refuses the credential."""
    FAILED = enum.auto()
    """It is the upstream's own fault."""
    ALIVE = enum.auto()
    """The upstream works, and does not want this request."""
    NOTHING = enum.auto()
    """Nothing of the upstream: the caller's time was over, or it was not asked at all."""


_REFUSING = frozenset({401, 402, 403, 429})
_UPSTREAMS_OWN = frozenset(
    {
        errors_pb2.ERROR_REASON_PROVIDER_UNAVAILABLE,
        errors_pb2.ERROR_REASON_PROVIDER_TIMEOUT,
        errors_pb2.ERROR_REASON_PROVIDER_ERROR,
        errors_pb2.ERROR_REASON_STREAM_INTERRUPTED,
    }
)
_OF_REQUEST = frozenset(
    {
        errors_pb2.ERROR_REASON_PROVIDER_REJECTED,
        errors_pb2.ERROR_REASON_CONTENT_FILTERED,
        errors_pb2.ERROR_REASON_CONTEXT_LENGTH_EXCEEDED,
        errors_pb2.ERROR_REASON_REQUEST_TOO_LARGE,
        errors_pb2.ERROR_REASON_UNSUPPORTED_PARAMETER,
        errors_pb2.ERROR_REASON_INVALID_REQUEST,
    }
)


def verdict_of(error: GatewayError, status: int) -> Verdict:
    """Return what an error tells; `status` is the upstream's, 0 where none came."""
    reason = error.reason
    if error.origin != "provider":
        return Verdict.NOTHING
    if reason == errors_pb2.ERROR_REASON_PROVIDER_RATE_LIMITED:
        return Verdict.LIMITED
    if reason == errors_pb2.ERROR_REASON_PROVIDER_UNAVAILABLE and status in _REFUSING:
        return Verdict.REFUSED
    if reason in _UPSTREAMS_OWN:
        return Verdict.FAILED
    return Verdict.ALIVE if status and reason in _OF_REQUEST else Verdict.NOTHING
