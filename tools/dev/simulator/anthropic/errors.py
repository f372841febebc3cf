"""Error bodies of the Messages API, and the other envelopes that servers in between use."""

from __future__ import annotations

from typing import Any

import orjson

from dev.simulator.answer import JSON, Answer
from dev.simulator.openai.errors import error_body as foreign_error_body

CONTEXT_MESSAGE = "prompt is too long: 209000 tokens > 200000 maximum. "

_BY_STATUS = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}


def error_object(status: int, reason: str, message: str) -> dict[str, Any]:
    """The object under `error`; `reason` is its type, `auto` for the usual one of the status."""
    kind = _BY_STATUS.get(status, "api_error" if status >= 500 else "invalid_request_error")
    if reason == "context_length_exceeded":
        message = CONTEXT_MESSAGE + message
    elif reason != "auto":
        kind = reason
    return {"type": kind, "message": message}


def envelope(error: dict[str, Any]) -> dict[str, Any]:
    """The document around an error."""
    return {"type": "error", "error": error, "request_id": "req_upstream_canary"}


def error_body(status: int, reason: str, message: str, form: str) -> tuple[str, bytes]:
    """Content type and body of an error; `openai`, the usual one, stands for this dialect's own."""
    if form != "openai":
        return foreign_error_body(status, reason, message, form)
    return JSON, orjson.dumps(envelope(error_object(status, reason, message)))


def refusal(status: int, kind: str, message: str) -> Answer:
    """An answer of the simulator itself to a request it cannot serve."""
    body = orjson.dumps(envelope({"type": kind, "message": message}))
    return Answer(None, False, lambda: body, tuple, error_body, status)
