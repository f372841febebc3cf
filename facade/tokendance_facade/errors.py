"""GatewayError in HTTP: status, headers and body, as the one error table says for each surface. Has no table itself."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from functools import lru_cache
from typing import Any, NamedTuple

import orjson

from tokendance.errors import GatewayError, spec_of
from tokendance.gateway.v1 import errors_pb2
from tokendance.gateway.v1.errors_pb2 import ErrorReason, Surface
from tokendance_facade.accounts import refusal_headers

_DEFAULT_RETRY_S = 1
_MAX_RETRY_S = 60
_WAITABLE = frozenset({429, 503, 529})
_USAGE_LIMIT = "usage_limit_reached"
# What an upstream of another dialect calls a field that has its own name here.
_PARAMS: dict[tuple[Surface.ValueType, str | None], str | None] = {
    (errors_pb2.SURFACE_RESPONSES, name): ours
    for name, ours in (
        ("messages", "input"),
        ("max_tokens", "max_output_tokens"),
        ("max_completion_tokens", "max_output_tokens"),
        ("response_format", "text.format"),
        ("reasoning_effort", "reasoning.effort"),
    )
}


class Shape(NamedTuple):
    """What one reason is on one surface."""

    status: int
    type: str
    code: str
    header_code: str
    """The stable code; `code` is what clients of the surface decide by."""


@lru_cache(maxsize=2048)
def shape_of(reason: ErrorReason.ValueType, surface: Surface.ValueType) -> Shape:
    """Return status, type and codes of a reason, with the surface's override where there is one."""
    spec = spec_of(reason)
    status, kind, code = spec.http_status, spec.type, spec.code
    for override in spec.overrides:
        if override.surface == surface:
            status = override.http_status or status
            kind = override.type or kind
            code = override.code or code
    return Shape(status, kind, code, spec.code)


def error_object(error: GatewayError, surface: Surface.ValueType, request_id: str, *, doc_url: str = "") -> bytes:
    """Return `{"error": {…}}` in OpenAI's form with our additions, in Anthropic's envelope where that is spoken."""
    document = error_document(error, surface, request_id, doc_url=doc_url)
    if surface == errors_pb2.SURFACE_MESSAGES:
        return orjson.dumps({"type": "error", "error": document, "request_id": request_id})
    return orjson.dumps({"error": document})


def error_document(
    error: GatewayError, surface: Surface.ValueType, request_id: str, *, doc_url: str = ""
) -> dict[str, Any]:
    """Return what stands under `error` in OpenAI's form, with our additions; `doc_url` leads to the code's page."""
    shape = shape_of(error.reason, surface)
    document: dict[str, Any] = {
        "message": error.message,
        "type": shape.type,
        "param": _PARAMS.get((surface, error.param), error.param),
        "code": shape.code,
        "request_id": request_id,
        "origin": error.origin,
    }
    if doc_url:
        document["doc_url"] = doc_url
    if "metric" in error.metadata:
        document |= _limit_fields(error.metadata)
    if shape.type == _USAGE_LIMIT and error.metadata.get("reset_at"):
        # The one form in which Codex tells its user when to come back.
        document["resets_at"] = int(datetime.fromisoformat(error.metadata["reset_at"]).timestamp())
    return document


def _limit_fields(told: Mapping[str, str]) -> dict[str, Any]:
    """Return which limit refused a call, when it is better, and what to do."""
    limit: dict[str, Any] = {name: told[name] for name in ("subject", "metric", "window", "model") if told.get(name)}
    limit |= {name: int(told[name]) for name in ("limit", "spent", "held") if name in told}
    return {"limit": limit, "reset_at": told.get("reset_at") or None, "remedy": told.get("remedy", "")}


def error_event(error: GatewayError, surface: Surface.ValueType, request_id: str) -> bytes:
    """Return the error as the last event of a stream, in the one form that the official SDKs raise."""
    name = b"event: error\n" if surface == errors_pb2.SURFACE_MESSAGES else b""
    return b"%bdata: %b\n\n" % (name, error_object(error, surface, request_id))


def error_headers(error: GatewayError, status: int) -> list[tuple[str, str]]:
    """Return the headers of an error answer: its stable code, and whether and when a retry may help."""
    headers = [("x-tokendance-error-code", spec_of(error.reason).code)]
    if not error.retryable:
        headers.append(("x-should-retry", "false"))
    elif error.retry_after_s is not None or status in _WAITABLE:
        seconds = _DEFAULT_RETRY_S if error.retry_after_s is None else error.retry_after_s
        headers.append(("retry-after", str(min(max(seconds, 1), _MAX_RETRY_S))))
    if "metric" in error.metadata:
        headers += refusal_headers(error.metadata, error.retry_after_s)
    return headers


def internal_error() -> GatewayError:
    """Return what callers see of an exception that nobody foresaw; its cause is for the log only."""
    return GatewayError(
        errors_pb2.ERROR_REASON_INTERNAL_ERROR,
        "Something went wrong inside the gateway; give the request id to support.",
    )


def stopping() -> GatewayError:
    """Return what callers see of a call that this node can no longer finish."""
    return GatewayError(
        errors_pb2.ERROR_REASON_SERVICE_STOPPING, "This node of the gateway is shutting down; send the request again."
    )


def interrupted() -> GatewayError:
    """Return what callers see of a stream that ended without saying so."""
    return GatewayError(
        errors_pb2.ERROR_REASON_STREAM_INTERRUPTED, "The stream broke before its end; what came is incomplete."
    )
