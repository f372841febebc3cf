"""What refusals of the Messages API mean; none of their own words comes through."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import orjson
import pytest

from tokendance.errors import GatewayError
from tokendance_server.providers.anthropic import AnthropicCodec

SECRET = "sk-ant-secret at http://10.0.0.7:8000"  # what careless servers repeat
CODEC = AnthropicCodec()


def of(status: int, kind: str, message: str, headers: dict[str, str] | None = None) -> GatewayError:
    """The error for an answer of the API."""
    document = {"type": "error", "error": {"type": kind, "message": f"{message} {SECRET}"}, "request_id": "req_1"}
    return CODEC.decode_error(status, headers or {}, orjson.dumps(document))


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (302, "provider_error"),
        (400, "provider_rejected"),
        (401, "provider_unavailable"),
        (402, "provider_unavailable"),
        (403, "provider_unavailable"),
        (404, "provider_rejected"),
        (408, "provider_timeout"),
        (413, "request_too_large"),
        (422, "provider_rejected"),
        (429, "provider_rate_limited"),
        (500, "provider_error"),
        (503, "provider_unavailable"),
        (504, "provider_timeout"),
        (529, "provider_unavailable"),
    ],
)
@pytest.mark.parametrize("body", [b"", b"<html>secret</html>", b'{"error":{"message":"secret"}}', b"\xff", b"[1]"])
def test_a_status_has_one_meaning(status: int, code: str, body: bytes) -> None:
    """Whatever the body."""
    error = CODEC.decode_error(status, {}, body)
    assert (error.code, error.origin) == (code, "provider")
    assert "secret" not in f"{error} {error.metadata} {error.param}"


@pytest.mark.parametrize(
    ("status", "kind", "message", "code", "param"),
    [
        (400, "invalid_request_error", "prompt is too long: 9 tokens > 8", "context_length_exceeded", "messages"),
        (413, "request_too_large", "Prompt is too long", "context_length_exceeded", "messages"),
        (400, "invalid_request_error", "Your credit balance is too low", "provider_unavailable", None),
        (400, "invalid_request_error", "Output blocked by content filtering policy", "content_filtered", None),
        (400, "invalid_request_error", "max_tokens: 9 > 8, which is the maximum", "provider_rejected", "max_tokens"),
        (
            400,
            "invalid_request_error",
            "messages.1.content.0.thinking: Field required",
            "provider_rejected",
            "messages.1.content.0.thinking",
        ),
        (
            400,
            "invalid_request_error",
            "`temperature` may only be set to 1 when thinking is on",
            "provider_rejected",
            "temperature",
        ),
        (400, "invalid_request_error", "tenant_id: not ours", "provider_rejected", None),
    ],
)
def test_a_refusal_is_told_by_what_it_says(status: int, kind: str, message: str, code: str, param: str | None) -> None:
    """The caller's own field is named; other words are not."""
    error = of(status, kind, message)
    assert (error.code, error.param) == (code, param)
    assert "secret" not in f"{error} {error.metadata}"


def test_the_wait_is_what_the_headers_say() -> None:
    """The plain one first; else until the last spent limit is whole again; never more than a minute."""
    assert of(429, "rate_limit_error", "", {"retry-after": "7"}).retry_after_s == 7
    until = datetime.fromtimestamp(time.time() + 30, UTC).isoformat().replace("+00:00", "Z")
    waits = {"anthropic-ratelimit-requests-reset": "nonsense", "anthropic-ratelimit-tokens-reset": until}
    assert of(429, "rate_limit_error", "", waits).retry_after_s in (29, 30, 31)
    assert of(429, "rate_limit_error", "").retry_after_s == 1


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        ("overloaded_error", "provider_unavailable"),
        ("rate_limit_error", "provider_rate_limited"),
        ("api_error", "provider_error"),
        ("timeout_error", "provider_timeout"),
        ("invalid_request_error", "provider_rejected"),
        ("of_a_later_version", "provider_error"),
    ],
)
def test_an_error_under_status_200_means_the_same(kind: str, code: str) -> None:
    """In place of an answer and of a stream."""
    body = orjson.dumps({"type": "error", "error": {"type": kind, "message": SECRET}})
    assert CODEC.error_of_body(body).code == code
    assert CODEC.error_of_body(b"<html>").code == "provider_error"
    assert CODEC.error_of_body(b"{}").code == "provider_error"
