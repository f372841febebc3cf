"""What callers are told where no route of a model can be taken. No provider is named."""

from __future__ import annotations

import math

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import errors_pb2

_LONGEST_WAIT_S = 60


def limited(wait_s: float) -> GatewayError:
    """Return the error for routes that are all at their providers' limits or at their own caps."""
    return GatewayError(
        errors_pb2.ERROR_REASON_PROVIDER_RATE_LIMITED,
        "The model's provider limits the gateway's calls at the moment; send the request again later.",
        retry_after_s=_whole(wait_s),
        origin="provider",
    )


def unavailable(wait_s: float) -> GatewayError:
    """Return the error for routes that are all out."""
    return GatewayError(
        errors_pb2.ERROR_REASON_PROVIDER_UNAVAILABLE,
        "The gateway may not use the model's provider at the moment; use another model, or tell support.",
        retry_after_s=_whole(wait_s),
        origin="provider",
    )


def not_permitted(model: str) -> GatewayError:
    """Return the error for a model of which a policy excludes every route."""
    return GatewayError(
        errors_pb2.ERROR_REASON_MODEL_NOT_ALLOWED,
        f"The policy of this API key or of its organization excludes every route of the model {model!r}.",
        param="model",
        metadata={"model": model},
        origin="caller",
    )


def _whole(wait_s: float) -> int:
    return max(1, min(_LONGEST_WAIT_S, math.ceil(wait_s)))
