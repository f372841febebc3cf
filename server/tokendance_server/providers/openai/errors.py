"""What the refusals of OpenAI-compatible servers mean, in the gateway's words: their own never leave this file."""

from __future__ import annotations

import email.utils
import math
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import errors_pb2
from tokendance.gateway.v1.errors_pb2 import ErrorReason
from tokendance_server.providers import json_text

_OVERFLOW = (
    "context_length_exceeded", "maximum context length", "exceeds the context window", "prompt is too long",
    "exceed context limit", "exceeds the maximum number of tokens", "input is too long", "too many input tokens",
    "maximum prompt length is", "reduce the length of the messages", "longer than the model's context length",
    "exceed_context_size_error", "greater than the context length", "exceeded model token limit",
    "too large for model with", "context window exceeds limit", "range of input length should be",
    "more than max tokens allowed", "model_context_window_exceeded",
)  # fmt: skip
_OVERFLOW_CODES = frozenset({"1261"})
_NOT_OVERFLOW = ("throttl", "rate limit", "per minute", "string_above_max_length")
_FILTERED = ("content_filter", "content_policy_violation", "responsibleaipolicyviolation", "content_filtered")
_NO_CREDIT = ("insufficient_quota", "insufficient_balance", "billing_hard_limit_reached")
_LIMITED = ("rate_limit", "too_many_requests", "throttl")

# What may be told of a refusal is a field that the caller can have sent, never a word that could be anything.
_FIELDS = frozenset(
    {
        "audio", "dimensions", "frequency_penalty", "include", "input", "instructions", "logit_bias", "logprobs",
        "max_completion_tokens", "max_output_tokens", "max_tokens", "max_tool_calls", "messages", "metadata",
        "modalities", "n", "parallel_tool_calls", "prediction", "presence_penalty", "prompt_cache_key", "reasoning",
        "reasoning_effort", "response_format", "safety_identifier", "seed", "service_tier", "stop", "store",
        "temperature", "text", "tool_choice", "tools", "top_k", "top_logprobs", "top_p", "truncation", "user",
        "verbosity", "web_search_options",
    }
)  # fmt: skip
_FIELD_PATH = re.compile(r"([a-z_]{1,40})(?:\[\d{1,6}\]|\.(?:\d{1,6}|[a-z_]{1,40})){0,6}")
_QUOTED_FIELD = re.compile(r"['\"`]([a-z_]{1,40}(?:\[\d{1,6}\]|\.(?:\d{1,6}|[a-z_]{1,40})){0,6})['\"`]")

# How much of an unknown body is looked through; longer ones are no error objects.
READ_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Refusal:
    """An error as the upstream told it: for deciding only, never for showing."""

    text: str = ""
    kind: str = ""
    code: str = ""
    param: str = ""

    @property
    def words(self) -> str:
        """Everything it says, in lower case."""
        return f"{self.text} {self.kind} {self.code}".lower()


def error_of_answer(status: int, headers: Mapping[str, str], body: bytes) -> GatewayError:
    """Return the error for an HTTP answer that is none. `headers` have lower-case names."""
    try:
        document = json_text.read(body[:READ_BYTES])
    except json_text.UNREADABLE:
        document = None
    return _classify(status, read_refusal(document), headers, is_empty=not body.strip())


def error_of_document(document: Any) -> GatewayError | None:
    """Return the error that a document or chunk under status 200 holds, or None where it holds none."""
    if not isinstance(document, dict):
        return None
    groq = document.get("x_groq")
    told = (
        document.get("error")
        or (document.get("object") == "error" and document)
        or (document.get("type") == "error" and document)
        or (isinstance(groq, dict) and groq.get("error"))
        or ("choices" not in document and document.get("detail"))
    )
    return error_of_event(told) if told else None


def error_of_event(told: Any) -> GatewayError:
    """Return the error for what an error event of a stream tells."""
    refusal = read_refusal(told if isinstance(told, dict) and "error" in told else {"error": told})
    code = int(refusal.code) if re.fullmatch(r"[45]\d\d", refusal.code) else _status_of(refusal)
    return _classify(code, refusal, {}, is_empty=False)


def _status_of(refusal: Refusal) -> int:
    """The HTTP status that an error without one would have had."""
    words = refusal.words
    if any(word in words for word in _LIMITED):
        return 429
    return 400 if refusal.kind == "invalid_request_error" else 500


def read_refusal(document: Any) -> Refusal:
    """Read any of the envelopes in use: an object or a text under `error`, `detail`, `message`, or nothing known."""
    if not isinstance(document, dict):
        return Refusal()
    error = document.get("error")
    if isinstance(error, dict):
        inner = error.get("innererror")
        codes = [_text(error.get("code")), _text(inner.get("code")) if isinstance(inner, dict) else ""]
        return Refusal(
            _text(error.get("message")),
            _text(error.get("type")),
            " ".join(code for code in codes if code),
            _text(error.get("param")),
        )
    said = error or document.get("detail") or document.get("message")
    text = said if isinstance(said, str) else json_text.write(said) if said else ""
    return Refusal(text, _text(document.get("type")), _text(document.get("code")), _text(document.get("param")))


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return json_text.write(value) if value else ""


def _classify(status: int, refusal: Refusal, headers: Mapping[str, str], *, is_empty: bool) -> GatewayError:
    words = refusal.words
    if status in (400, 403, 404, 413, 422, 500) and _is_overflow(words, refusal.code):
        return _error(
            errors_pb2.ERROR_REASON_CONTEXT_LENGTH_EXCEEDED,
            "The messages and the output cap do not fit into the model's context window; shorten one of them.",
            param="messages",
        )
    if status in (400, 403, 422) and any(word in words for word in _FILTERED):
        return _error(
            errors_pb2.ERROR_REASON_CONTENT_FILTERED,
            "The content policy of the model's provider refused the request; change the prompt.",
        )
    if status in (401, 402, 403) or (status == 429 and any(word in words for word in _NO_CREDIT)):
        return _error(
            errors_pb2.ERROR_REASON_PROVIDER_UNAVAILABLE,
            "The gateway may not use the model's provider at the moment; use another model, or tell support.",
        )
    if status == 413:
        return _too_large(is_empty=is_empty)
    if status in (400, 404, 422):
        return _rejected(refusal)
    if status in (408, 504):
        return _error(
            errors_pb2.ERROR_REASON_PROVIDER_TIMEOUT,
            "The model's provider did not answer in time; send the request again.",
        )
    if status == 429:
        return _error(
            errors_pb2.ERROR_REASON_PROVIDER_RATE_LIMITED,
            "The model's provider limits the gateway's calls at the moment; send the request again later.",
            retry_after_s=retry_after(headers) or 1,
        )
    return _error(
        errors_pb2.ERROR_REASON_PROVIDER_ERROR,
        "The model's provider failed to answer; send the request again.",
        retry_after_s=retry_after(headers),
    )


def _is_overflow(words: str, code: str) -> bool:
    if any(word in words for word in _NOT_OVERFLOW):
        return False
    return code in _OVERFLOW_CODES or any(word in words for word in _OVERFLOW)


def _too_large(*, is_empty: bool) -> GatewayError:
    if is_empty:
        # A server that says nothing at all means the context window; proxies in between say something.
        return _error(
            errors_pb2.ERROR_REASON_CONTEXT_LENGTH_EXCEEDED,
            "The messages do not fit into the model's context window; shorten them.",
            param="messages",
        )
    return _error(
        errors_pb2.ERROR_REASON_REQUEST_TOO_LARGE, "The request is larger than the model's provider takes; send less."
    )


def _rejected(refusal: Refusal) -> GatewayError:
    param = _field(refusal)
    if param is None:
        message = "The model's provider refuses this request: a field or a value of it does not suit the model."
        return _error(errors_pb2.ERROR_REASON_PROVIDER_REJECTED, message)
    message = f"The model's provider refuses the field {param} of this request, or its value."
    return _error(errors_pb2.ERROR_REASON_PROVIDER_REJECTED, message, param=param)


def _field(refusal: Refusal) -> str | None:
    """The field that the refusal speaks of, where it is surely one."""
    whole = _FIELD_PATH.fullmatch(refusal.param)
    if whole and whole[1] in _FIELDS:
        return refusal.param
    for quoted in _QUOTED_FIELD.finditer(refusal.text[:2000]):
        match = _FIELD_PATH.fullmatch(quoted[1])
        if match and match[1] in _FIELDS:
            return quoted[1]
    return None


def retry_after(headers: Mapping[str, str]) -> int | None:
    """Return the wait that the upstream asks for, in whole seconds from 1 to 60, or None where it asks for none."""
    wanted = _seconds(headers.get("retry-after-ms"), 1000)
    if wanted is None:
        wanted = _seconds(headers.get("retry-after"), 1)
    if wanted is None:
        wanted = _until(headers.get("retry-after"))
    return None if wanted is None else max(1, min(60, math.ceil(wanted)))


def _seconds(value: str | None, per_second: int) -> float | None:
    try:
        number = float(value or "") / per_second
    except ValueError:
        return None
    return max(-1.0, min(3600.0, number)) if math.isfinite(number) else None


def _until(value: str | None) -> float | None:
    try:
        when = email.utils.parsedate_to_datetime(value or "")
        return max(-1.0, min(3600.0, when.timestamp() - time.time()))
    except (ValueError, OverflowError):
        return None


def _error(
    reason: ErrorReason.ValueType, message: str, *, param: str | None = None, retry_after_s: int | None = None
) -> GatewayError:
    metadata = {"param": param} if param else {}
    return GatewayError(reason, message, param=param, retry_after_s=retry_after_s, metadata=metadata, origin="provider")
