"""Error bodies of the Gemini API, and the other envelopes that servers in between use."""

from __future__ import annotations

from typing import Any

import orjson

from dev.simulator.answer import JSON, Answer
from dev.simulator.openai.errors import error_body as foreign_error_body

CONTEXT_MESSAGE = "The input token count (9000) exceeds the maximum number of tokens allowed (8192). "

_BY_STATUS = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
_TYPE = "type.googleapis.com/google.rpc."


def error_object(status: int, reason: str, message: str) -> dict[str, Any]:
    """The object under `error`; `reason` is that of its ErrorInfo, `PER_DAY` a quota of a day, `auto` none."""
    if reason == "context_length_exceeded":
        message = CONTEXT_MESSAGE + message
    details: list[dict[str, Any]] = []
    if status == 429:
        quota = "PerDay" if reason == "PER_DAY" else "PerMinute"
        details.append({"@type": f"{_TYPE}QuotaFailure", "violations": [{"quotaId": f"GenerateRequests{quota}"}]})
        details.append({"@type": f"{_TYPE}RetryInfo", "retryDelay": "2s"})
    elif reason not in ("auto", "context_length_exceeded"):
        details.append({"@type": f"{_TYPE}ErrorInfo", "reason": reason, "domain": "googleapis.com"})
    word = _BY_STATUS.get(status, "INTERNAL" if status >= 500 else "INVALID_ARGUMENT")
    error = {"code": status, "message": message, "status": word}
    return error | {"details": details} if details else error


def error_body(status: int, reason: str, message: str, form: str) -> tuple[str, bytes]:
    """Content type and body of an error; `openai`, the usual one, stands for this dialect's own, `flat` for a list."""
    document: Any = {"error": error_object(status, reason, message)}
    if form not in ("openai", "flat"):
        return foreign_error_body(status, reason, message, form)
    return JSON, orjson.dumps([document] if form == "flat" else document)


def refusal(status: int, word: str, message: str) -> Answer:
    """An answer of the simulator itself to a request it cannot serve."""
    body = orjson.dumps({"error": {"code": status, "message": message, "status": word}})
    return Answer(None, False, lambda: body, tuple, error_body, status)
