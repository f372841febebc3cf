"""What refusals of the Messages API mean, in the gateway's words: its own never leave this file."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import errors_pb2
from tokendance.gateway.v1.errors_pb2 import ErrorReason
from tokendance_server.providers import json_text
from tokendance_server.providers.openai.errors import READ_BYTES, Refusal, read_refusal, retry_after

_STATUS_OF_TYPE = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
}
_OVERFLOW = (
    "prompt is too long", "exceed context limit", "exceeds the context window", "input is too long",
    "maximum context length", "model_context_window_exceeded",
)  # fmt: skip
_NO_CREDIT = ("credit balance is too low",)
_FILTERED = ("content filtering policy", "content_filter")
_RESETS = (
    "anthropic-ratelimit-requests-reset",
    "anthropic-ratelimit-tokens-reset",
    "anthropic-ratelimit-input-tokens-reset",
    "anthropic-ratelimit-output-tokens-reset",
)

# What may be told of a refusal is a field that the caller can have sent, never a word that could be anything.
_FIELDS = frozenset(
    {
        "cache_control", "container", "context_management", "max_tokens", "mcp_servers", "messages", "metadata",
        "output_config", "service_tier", "speed", "stop_sequences", "system", "temperature", "thinking", "tool_choice",
        "tools", "top_k", "top_p",
    }
)  # fmt: skip
_NAMED_FIELD = re.compile(r"`?([a-z_]{1,40})((?:\.(?:\d{1,6}|[a-z_]{1,40})){0,8})`?(?:: | may | must | is )")


def error_of_answer(status: int, headers: Mapping[str, str], body: bytes) -> GatewayError:
    """Return the error for an HTTP answer that is none. `headers` have lower-case names."""
    try:
        document = json_text.read(body[:READ_BYTES])
    except json_text.UNREADABLE:
        document = None
    return _classify(status, read_refusal(document), headers)


def error_of_document(document: Any) -> GatewayError | None:
    """Return the error that a document or event under status 200 holds, or None where it holds none."""
    if not isinstance(document, dict) or not (document.get("type") == "error" or document.get("error")):
        return None
    refusal = read_refusal(document if "error" in document else {"error": document})
    return _classify(_STATUS_OF_TYPE.get(refusal.kind, 500), refusal, {})


def _classify(status: int, refusal: Refusal, headers: Mapping[str, str]) -> GatewayError:
    words = refusal.words
    if status in (400, 413) and any(word in words for word in _OVERFLOW):
        return _error(
            errors_pb2.ERROR_REASON_CONTEXT_LENGTH_EXCEEDED,
            "The messages and the output cap do not fit into the model's context window; shorten one of them.",
            param="messages",
        )
    if status in (401, 402, 403) or any(word in words for word in _NO_CREDIT):
        return _error(
            errors_pb2.ERROR_REASON_PROVIDER_UNAVAILABLE,
            "The gateway may not use the model's provider at the moment; use another model, or tell support.",
        )
    if status in (400, 422) and any(word in words for word in _FILTERED):
        return _error(
            errors_pb2.ERROR_REASON_CONTENT_FILTERED,
            "The content policy of the model's provider refused the request; change the prompt.",
        )
    if status == 413:
        return _error(
            errors_pb2.ERROR_REASON_REQUEST_TOO_LARGE,
            "The request is larger than the model's provider takes; send less.",
        )
    if status in (400, 404, 422):
        return _rejected(refusal)
    return _failed(status, headers)


def _failed(status: int, headers: Mapping[str, str]) -> GatewayError:
    if status in (408, 504):
        return _error(
            errors_pb2.ERROR_REASON_PROVIDER_TIMEOUT,
            "The model's provider did not answer in time; send the request again.",
        )
    if status == 429:
        return _error(
            errors_pb2.ERROR_REASON_PROVIDER_RATE_LIMITED,
            "The model's provider limits the gateway's calls at the moment; send the request again later.",
            retry_after_s=retry_after(headers) or _reset_s(headers) or 1,
        )
    if status in (503, 529):
        return _error(
            errors_pb2.ERROR_REASON_PROVIDER_UNAVAILABLE,
            "The model's provider is overloaded at the moment; send the request again later, or use another model.",
            retry_after_s=retry_after(headers) or 1,
        )
    return _error(
        errors_pb2.ERROR_REASON_PROVIDER_ERROR,
        "The model's provider failed to answer; send the request again.",
        retry_after_s=retry_after(headers),
    )


def _rejected(refusal: Refusal) -> GatewayError:
    param = _field(refusal.text[:2000])
    if param is None:
        message = "The model's provider refuses this request: a field or a value of it does not suit the model."
        return _error(errors_pb2.ERROR_REASON_PROVIDER_REJECTED, message)
    message = f"The model's provider refuses the field {param} of this request, or its value."
    return _error(errors_pb2.ERROR_REASON_PROVIDER_REJECTED, message, param=param)


def _field(text: str) -> str | None:
    """The field that the refusal speaks of first, such as `messages.1.content.0`, where it is surely one."""
    for found in _NAMED_FIELD.finditer(text):
        if found[1] in _FIELDS:
            return found[1] + found[2]
    return None


def _reset_s(headers: Mapping[str, str]) -> int | None:
    """Return how long until the last of the limits that are spent is whole again, in whole seconds from 1 to 60."""
    waits = []
    for name in _RESETS:
        try:
            waits.append(datetime.fromisoformat(headers[name]).timestamp() - time.time())
        except (KeyError, ValueError, OverflowError):
            continue
    return max(1, min(60, math.ceil(max(waits)))) if waits else None


def _error(
    reason: ErrorReason.ValueType, message: str, *, param: str | None = None, retry_after_s: int | None = None
) -> GatewayError:
    metadata = {"param": param} if param else {}
    return GatewayError(reason, message, param=param, retry_after_s=retry_after_s, metadata=metadata, origin="provider")
