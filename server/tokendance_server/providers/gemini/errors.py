"""What the refusals of Gemini servers mean, in the gateway's words: their own never leave this file."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import errors_pb2
from tokendance.gateway.v1.errors_pb2 import ErrorReason
from tokendance_server.providers import json_text
from tokendance_server.providers.openai.errors import retry_after

READ_BYTES = 64 * 1024
"""How much of an unknown body is looked through; longer ones are no error objects."""

_OVERFLOW = ("exceeds the maximum number of tokens", "input token count", "exceeds the context window")
_SIGNATURES = ("thought signature", "thought_signature")
_STATUS_BY_WORD = {
    "INVALID_ARGUMENT": 400, "FAILED_PRECONDITION": 400, "OUT_OF_RANGE": 400, "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403, "NOT_FOUND": 404, "ABORTED": 409, "RESOURCE_EXHAUSTED": 429, "CANCELLED": 499,
    "INTERNAL": 500, "UNKNOWN": 500, "UNAVAILABLE": 503, "DEADLINE_EXCEEDED": 504,
}  # fmt: skip
# By the words of the upstream's own documents, the names that the callers of a gateway know.
_FIELDS = {
    "cached_content": "prompt_cache_key", "candidate_count": "n", "contents": "messages",
    "frequency_penalty": "frequency_penalty", "function_declarations": "tools", "logprobs": "top_logprobs",
    "max_output_tokens": "max_tokens", "presence_penalty": "presence_penalty", "response_json_schema":
    "response_format", "response_logprobs": "logprobs", "response_mime_type": "response_format",
    "response_modalities": "modalities", "response_schema": "response_format", "seed": "seed",
    "stop_sequences": "stop", "system_instruction": "messages", "temperature": "temperature", "thinking_budget":
    "reasoning_effort", "thinking_config": "reasoning_effort", "thinking_level": "reasoning_effort",
    "tool_config": "tool_choice", "tools": "tools", "top_k": "top_k", "top_p": "top_p",
}  # fmt: skip
_WORD = re.compile(r"[a-z]+(?:_[a-z]+)*")
# A path, or a name of several words: what no sentence has by chance.
_PATH = re.compile(r"[A-Za-z0-9]*(?:_|\.(?=[A-Za-z])|\[\d)[A-Za-z0-9_.\[\]]*")
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_DELAY = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)s")


class SignatureRefusedError(GatewayError):
    """The upstream does not take the signature of an earlier turn, or misses it."""


def error_of_answer(status: int, headers: Mapping[str, str], body: bytes) -> GatewayError:
    """Return the error for an HTTP answer that is none. `headers` have lower-case names."""
    try:
        document = json_text.read(body[:READ_BYTES])
    except json_text.UNREADABLE:
        document = None
    return _classify(status, _error_of(document), headers)


def error_of_document(document: Any) -> GatewayError | None:
    """Return the error that a document under status 200 holds, or None where it holds none.

    It may be the only entry of a list.
    """
    told = _error_of(document)
    if not told:
        return None
    code = told.get("code")
    if not isinstance(code, int) or not 400 <= code <= 599:
        code = _STATUS_BY_WORD.get(str(told.get("status")), 500)
    return _classify(code, told, {})


def _error_of(document: Any) -> dict[str, Any]:
    if isinstance(document, list) and document:
        document = document[0]
    told = document.get("error") if isinstance(document, dict) else None
    if isinstance(told, str):
        return {"message": told}
    return told if isinstance(told, dict) else {}


def _classify(status: int, told: Mapping[str, Any], headers: Mapping[str, str]) -> GatewayError:
    message = str(told.get("message", "")).lower()
    details = told.get("details")
    details = [one for one in details if isinstance(one, dict)] if isinstance(details, list) else []
    if status in (400, 413) and any(words in message for words in _OVERFLOW):
        return _error(
            errors_pb2.ERROR_REASON_CONTEXT_LENGTH_EXCEEDED,
            "The messages and the output cap do not fit into the model's context window; shorten one of them.",
            param="messages",
        )
    if status == 400 and any(words in message for words in _SIGNATURES):
        return SignatureRefusedError(
            errors_pb2.ERROR_REASON_PROVIDER_REJECTED,
            "The model's provider does not know the signature of an earlier turn; begin a new conversation.",
            param="messages",
            metadata={"param": "messages"},
            origin="provider",
        )
    if status in (401, 402, 403) or (status == 400 and _is_of_the_gateway(told, details)):
        return _not_served()
    if status == 413:
        return _error(
            errors_pb2.ERROR_REASON_REQUEST_TOO_LARGE,
            "The request is larger than the model's provider takes; send less.",
        )
    if status in (400, 404, 422):
        return _rejected(told, details)
    if status in (408, 504):
        return _error(
            errors_pb2.ERROR_REASON_PROVIDER_TIMEOUT,
            "The model's provider did not answer in time; send the request again.",
        )
    if status == 429:
        return _not_served() if _lasts_a_day(details) else _limited(headers, details)
    return _error(
        errors_pb2.ERROR_REASON_PROVIDER_ERROR,
        "The model's provider failed to answer; send the request again.",
        retry_after_s=retry_after(headers) or _delay(details),
    )


def _is_of_the_gateway(told: Mapping[str, Any], details: list[dict[str, Any]]) -> bool:
    """Tell whether a bad request is none of the caller's: the credential, the account or the place is refused."""
    reasons = [str(one.get("reason", "")) for one in details]
    return told.get("status") == "FAILED_PRECONDITION" or any(reason.startswith("API_KEY_") for reason in reasons)


def _lasts_a_day(details: list[dict[str, Any]]) -> bool:
    """Tell whether a quota of a day is spent: no wait that a caller would make helps."""
    violations = [one for detail in details for one in _list(detail.get("violations")) if isinstance(one, dict)]
    return any("perday" in str(one.get("quotaId", "")).lower() for one in violations)


def _limited(headers: Mapping[str, str], details: list[dict[str, Any]]) -> GatewayError:
    return _error(
        errors_pb2.ERROR_REASON_PROVIDER_RATE_LIMITED,
        "The model's provider limits the gateway's calls at the moment; send the request again later.",
        retry_after_s=retry_after(headers) or _delay(details) or 1,
    )


def _not_served() -> GatewayError:
    return _error(
        errors_pb2.ERROR_REASON_PROVIDER_UNAVAILABLE,
        "The gateway may not use the model's provider at the moment; use another model, or tell support.",
    )


def _delay(details: list[dict[str, Any]]) -> int | None:
    """The wait that the body asks for, in whole seconds from 1 to 60; None where it asks for none."""
    for one in details:
        told = _DELAY.fullmatch(str(one.get("retryDelay", "")))
        if told:
            return max(1, min(60, math.ceil(float(told[1]))))
    return None


def _rejected(told: Mapping[str, Any], details: list[dict[str, Any]]) -> GatewayError:
    places = [one.get("field") for detail in details for one in _list(detail.get("fieldViolations")) if _is_map(one)]
    param = next((found for place in [*places, told.get("message")] if (found := _field_of(place))), None)
    if param is None:
        message = "The model's provider refuses this request: a field or a value of it does not suit the model."
        return _error(errors_pb2.ERROR_REASON_PROVIDER_REJECTED, message)
    message = f"The model's provider refuses the field {param} of this request, or its value."
    return _error(errors_pb2.ERROR_REASON_PROVIDER_REJECTED, message, param=param)


def _field_of(text: Any) -> str | None:
    """The caller's field that a place or a sentence of the upstream speaks of: the narrowest that is known."""
    if not isinstance(text, str):
        return None
    paths = _PATH.findall(text[:500]) if " " in text else [text[:500]]
    words = _WORD.findall(_CAMEL.sub("_", " ".join(paths)).lower())
    return next((_FIELDS[word] for word in reversed(words) if word in _FIELDS), None)


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _is_map(value: Any) -> bool:
    return isinstance(value, dict)


def _error(
    reason: ErrorReason.ValueType, message: str, *, param: str | None = None, retry_after_s: int | None = None
) -> GatewayError:
    metadata = {"param": param} if param else {}
    return GatewayError(reason, message, param=param, retry_after_s=retry_after_s, metadata=metadata, origin="provider")
