"""How a failure ends a stream of the Responses API: an `error` event, and the answer as failed."""

from __future__ import annotations

from tokendance_facade.dialects.documents import Document

# What clients decide by is the code; other codes mean a failure of the server to them, and they send the turn again.
_CODES = frozenset({"context_length_exceeded", "invalid_prompt", "rate_limit_exceeded", "server_error"})
_BY_TYPE = {
    "usage_limit_reached": "insufficient_quota",
    "rate_limit_error": "rate_limit_exceeded",
    "invalid_request_error": "invalid_prompt",
}


def failed_error(error: Document, retry_after_s: int | None) -> Document:
    """Return the `error` of a failed answer for an error object as this API writes it.

    The wait stands in the message, too: the one place where a client looks for it in a stream.
    """
    code = error["code"] if error["code"] in _CODES else _BY_TYPE.get(error["type"], "server_error")
    message = error["message"]
    if code == "rate_limit_exceeded" and retry_after_s is not None:
        message = f"{message} Please try again in {retry_after_s}s."
    return {"code": code, "message": message}


def error_event(error: Document, sequence_number: int) -> Document:
    """Return the `error` event in both of its forms at once: some clients read one, some the other."""
    flat = {name: error[name] for name in ("code", "message", "param")}
    return {"type": "error", "sequence_number": sequence_number, **flat, "error": error}
