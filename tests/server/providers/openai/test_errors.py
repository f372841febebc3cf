"""What refusals of upstreams mean; none of their own words comes through."""

import email.utils
import time
from typing import Any

import orjson
import pytest

from tokendance.errors import GatewayError
from tokendance_server.providers.openai.errors import error_of_answer, error_of_document, error_of_event, retry_after

SECRET = "sk-secret at http://10.0.0.7:8000/v1"  # what careless servers repeat


def of(status: int, error: Any = None, headers: dict[str, str] | None = None) -> GatewayError:
    """The error for an answer with this error object."""
    if isinstance(error, dict):
        error = {"message": SECRET, **error}
    return error_of_answer(status, headers or {}, orjson.dumps({"error": error}))


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (302, "provider_error"),
        (400, "provider_rejected"),
        (401, "provider_unavailable"),
        (402, "provider_unavailable"),
        (403, "provider_unavailable"),
        (404, "provider_rejected"),
        (405, "provider_error"),
        (408, "provider_timeout"),
        (409, "provider_error"),
        (413, "request_too_large"),
        (422, "provider_rejected"),
        (429, "provider_rate_limited"),
        (498, "provider_error"),
        (500, "provider_error"),
        (502, "provider_error"),
        (503, "provider_error"),
        (504, "provider_timeout"),
        (529, "provider_error"),
    ],
)
@pytest.mark.parametrize(
    "body", [b"", b"<html>sk-secret</html>", b'{"error":{"message":"sk-secret"}}', b"\xff", b"[1]"]
)
def test_a_status_has_one_meaning(status: int, code: str, body: bytes) -> None:
    """Whatever the body; only an empty 413 means the context window."""
    error = error_of_answer(status, {}, body)
    assert error.code == (code if (status, body) != (413, b"") else "context_length_exceeded")
    assert error.origin == "provider"
    assert "secret" not in f"{error} {error.metadata} {error.param}"


@pytest.mark.parametrize(
    "error",
    [
        {"code": "context_length_exceeded"},
        {"message": "This model's maximum context length is 8192 tokens."},
        {"message": "Input is too long for requested model."},
        {"type": "exceed_context_size_error"},
        {"code": 1261},
    ],
)
@pytest.mark.parametrize("status", [400, 413, 422, 500])
def test_a_full_context_window_is_told_by_its_words(error: dict[str, Any], status: int) -> None:
    """Servers have no common code for it."""
    assert of(status, error).code == "context_length_exceeded"


@pytest.mark.parametrize("status", [429, 503])
def test_a_rate_limit_is_never_a_full_window(status: int) -> None:
    """Some speak of too many tokens in both cases."""
    error = {"message": "Too many input tokens per minute; the maximum context length is fine."}
    assert of(status, error).code != "context_length_exceeded"
    assert of(400, error).code == "provider_rejected"
    assert of(400, {"code": "string_above_max_length", "message": "input is too long"}).code == "provider_rejected"


def test_a_filtered_prompt_is_told_by_its_code() -> None:
    """In the code, or in the inner one."""
    assert of(400, {"code": "content_filter"}).code == "content_filtered"
    assert of(403, {"type": "content_policy_violation"}).code == "content_filtered"
    inner = {"code": None, "innererror": {"code": "ResponsibleAIPolicyViolation"}}
    assert of(400, inner).code == "content_filtered"


def test_an_empty_account_is_no_rate_limit() -> None:
    """Waiting does not fill it, and it is not the caller's."""
    assert of(429, {"code": "insufficient_quota"}).code == "provider_unavailable"


@pytest.mark.parametrize(
    ("error", "param"),
    [
        ({"param": "temperature"}, "temperature"),
        ({"param": "messages[3].content.0.text"}, "messages[3].content.0.text"),
        ({"message": "Unsupported parameter: 'max_tokens' is not supported with this model."}, "max_tokens"),
        ({"param": "sk-secret"}, None),
        ({"param": "internal_router"}, None),
        ({"param": "messages; sk-secret"}, None),
        ({"param": {"a": 1}}, None),
        ({"message": "the host 'internal_host' and 'db'"}, None),
    ],
)
def test_a_rejection_names_a_field_of_the_callers_at_most(error: dict[str, Any], param: str | None) -> None:
    """Known names only, so that no other word of the upstream's comes through."""
    refused = of(400, error)
    assert refused.param == param
    assert param is None or param in refused.message
    assert "secret" not in refused.message


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("7", 7),
        ("0.5", 1),
        ("-1", 1),
        ("0", 1),
        ("1e9", 60),
        ("61", 60),
        ("soon", None),
        ("", None),
        ("nan", None),
        ("inf", None),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 1),
        ("Wed, 99 Oct 2015 07:28:00 GMT", None),
    ],
)
def test_a_wait_is_between_one_second_and_a_minute(value: str, seconds: int | None) -> None:
    """Or unknown, where it is no wait at all."""
    assert retry_after({"retry-after": value}) == seconds


def test_a_wait_may_be_a_date_or_milliseconds() -> None:
    """Milliseconds count where both are given."""
    date = email.utils.formatdate(time.time() + 20, usegmt=True)
    assert retry_after({"retry-after": date}) in (19, 20, 21)
    assert retry_after({"retry-after": "50", "retry-after-ms": "1500"}) == 2
    assert retry_after({}) is None


def test_a_rate_limit_always_says_when_to_come_back() -> None:
    """A second, where the upstream says nothing."""
    assert of(429).retry_after_s == 1
    assert of(429, headers={"retry-after": "30"}).retry_after_s == 30
    assert of(503, headers={"retry-after": "30"}).retry_after_s == 30
    assert of(503).retry_after_s is None


@pytest.mark.parametrize(
    ("document", "code"),
    [
        ({"error": {"message": SECRET, "type": "server_error"}}, "provider_error"),
        ({"error": SECRET}, "provider_error"),
        ({"error": {"code": 429, "message": SECRET}}, "provider_rate_limited"),
        ({"error": {"code": "502", "message": SECRET}, "choices": []}, "provider_error"),
        ({"object": "error", "message": SECRET, "type": "BadRequestError", "code": 400}, "provider_rejected"),
        ({"type": "error", "error": {"type": "overloaded_error", "message": SECRET}}, "provider_error"),
        ({"choices": [], "x_groq": {"error": SECRET}}, "provider_error"),
        ({"detail": [{"msg": SECRET}]}, "provider_error"),
        ({"error": {"type": "rate_limit_error", "message": SECRET}}, "provider_rate_limited"),
        ({"error": {"type": "invalid_request_error", "code": "context_length_exceeded"}}, "context_length_exceeded"),
        ({"error": {"type": "invalid_request_error", "message": SECRET}}, "provider_rejected"),
    ],
)
def test_an_error_under_status_200_is_seen(document: dict[str, Any], code: str) -> None:
    """In every envelope in use; what it means is told by its code or type."""
    error = error_of_document(document)
    assert error is not None
    assert error.code == code
    assert "secret" not in str(error)


@pytest.mark.parametrize(
    "document", [None, [], "x", {}, {"error": None, "choices": []}, {"choices": [], "detail": "x"}]
)
def test_an_answer_is_no_error(document: Any) -> None:
    """A null error among the fields means none."""
    assert error_of_document(document) is None


@pytest.mark.parametrize("told", ["", "text", {"message": SECRET}, {"error": {"message": SECRET}}, [1], 5, None])
def test_an_error_event_is_an_error_whatever_it_holds(told: Any) -> None:
    """Never silence."""
    assert error_of_event(told).code == "provider_error"
