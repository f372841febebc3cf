"""Error bodies in the envelopes that OpenAI and its imitators use."""

from __future__ import annotations

from typing import Any

import orjson

from dev.simulator.answer import JSON, Answer

CONTEXT_MESSAGE = "This model's maximum context length is 8192 tokens, but your messages have 9000 tokens. "
HTML_BODY = (
    b"<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body>\r\n"
    b"<center><h1>502 Bad Gateway</h1></center>\r\n<hr><center>upstream-server-canary</center>\r\n"
    b"</body>\r\n</html>\r\n"
)

_BY_STATUS: dict[int, tuple[str, str | None]] = {
    400: ("invalid_request_error", "invalid_value"),
    401: ("invalid_request_error", "invalid_api_key"),
    403: ("invalid_request_error", "unsupported_country_region_territory"),
    404: ("invalid_request_error", "model_not_found"),
    429: ("rate_limit_error", "rate_limit_exceeded"),
    503: ("service_unavailable_error", "server_is_overloaded"),
}


def error_object(status: int, reason: str, message: str) -> dict[str, Any]:
    """The object under `error`; `reason` is its code, `auto` for the usual one of the status."""
    kind, code = _BY_STATUS.get(status, ("server_error" if status >= 500 else "invalid_request_error", None))
    if reason != "auto":
        code = reason
    if reason == "insufficient_quota":
        kind = reason
    if reason == "context_length_exceeded":
        message = CONTEXT_MESSAGE + message
    return {"message": message, "type": kind, "param": None, "code": code}


def error_body(status: int, reason: str, message: str, envelope: str) -> tuple[str, bytes]:
    """Content type and body of an error; the envelopes are those that the table of faults allows."""
    if envelope == "html":
        return "text/html; charset=utf-8", HTML_BODY
    if envelope == "empty":
        return JSON, b""
    error = error_object(status, reason, message)
    text = error["message"]
    forms: dict[str, Any] = {
        "openai": {"error": error},
        "flat": {"object": "error", "message": text, "type": error["type"], "param": None, "code": status},
        "text": {"error": text},
        "code-text": {"code": error["code"], "error": text},
        "detail": {"detail": text},
        "detail-list": {"detail": [{"loc": ["body", "messages"], "msg": text, "type": "value_error"}]},
        "message": {"message": text},
    }
    return JSON, orjson.dumps(forms[envelope])


def refusal(status: int, reason: str, message: str) -> Answer:
    """An answer of the simulator itself to a request it cannot serve."""
    _, body = error_body(status, reason, message, "openai")
    return Answer(None, False, lambda: body, tuple, error_body, status)
