"""What refusals mean, in the gateway's words and never in the upstream's."""

import json
from typing import Any

import pytest

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import completion_pb2 as pb
from tokendance.gateway.v1 import errors_pb2
from tokendance_server.providers.gemini import GeminiCodec

CODEC = GeminiCodec()


def refusal(status: int, error: dict[str, Any], *, listed: bool = False, **headers: str) -> GatewayError:
    """The error for an answer of this status."""
    document: Any = {"error": {"code": status, "message": "canary-of-upstream", **error}}
    return CODEC.decode_error(status, headers, json.dumps([document] if listed else document).encode())


def detail(kind: str, **fields: Any) -> dict[str, Any]:
    """One of `details`."""
    return {"@type": f"type.googleapis.com/google.rpc.{kind}", **fields}


BAD_KEY = [detail("ErrorInfo", reason="API_KEY_INVALID", domain="googleapis.com")]
PER_DAY = [detail("QuotaFailure", violations=[{"quotaId": "GenerateRequestsPerDayPerProjectPerModel-FreeTier"}])]
PER_MINUTE = [detail("QuotaFailure", violations=[{"quotaId": "GenerateRequestsPerMinute"}])]
DELAY = [detail("RetryInfo", retryDelay="34.1s")]
FIELD = [detail("BadRequest", fieldViolations=[{"field": "generation_config.top_k", "description": "canary"}])]

CASES: dict[str, tuple[int, dict[str, Any], int, int | None, str | None]] = {
    "bad key": (400, {"status": "INVALID_ARGUMENT", "details": BAD_KEY}, errors_pb2.ERROR_REASON_PROVIDER_UNAVAILABLE,
                None, None),
    "place": (400, {"status": "FAILED_PRECONDITION"}, errors_pb2.ERROR_REASON_PROVIDER_UNAVAILABLE, None, None),
    "forbidden": (403, {"status": "PERMISSION_DENIED"}, errors_pb2.ERROR_REASON_PROVIDER_UNAVAILABLE, None, None),
    "delay": (429, {"details": [*PER_MINUTE, *DELAY]}, errors_pb2.ERROR_REASON_PROVIDER_RATE_LIMITED, 35, None),
    "no delay": (429, {}, errors_pb2.ERROR_REASON_PROVIDER_RATE_LIMITED, 1, None),
    "day": (429, {"details": [*PER_DAY, *DELAY]}, errors_pb2.ERROR_REASON_PROVIDER_UNAVAILABLE, None, None),
    "overflow": (400, {"message": "The input token count (9) exceeds the maximum number of tokens allowed (8)."},
                 errors_pb2.ERROR_REASON_CONTEXT_LENGTH_EXCEEDED, None, "messages"),
    "field": (400, {"details": FIELD}, errors_pb2.ERROR_REASON_PROVIDER_REJECTED, None, "top_k"),
    "field in words": (400, {"message": "* GenerateContentRequest.generationConfig.stopSequences: too many."},
                       errors_pb2.ERROR_REASON_PROVIDER_REJECTED, None, "stop"),
    "words by chance": (400, {"message": "All tools are bad, and the temperature."},
                        errors_pb2.ERROR_REASON_PROVIDER_REJECTED, None, None),
    "no model": (404, {"status": "NOT_FOUND"}, errors_pb2.ERROR_REASON_PROVIDER_REJECTED, None, None),
    "large": (413, {}, errors_pb2.ERROR_REASON_REQUEST_TOO_LARGE, None, None),
    "late": (504, {"status": "DEADLINE_EXCEEDED"}, errors_pb2.ERROR_REASON_PROVIDER_TIMEOUT, None, None),
    "overloaded": (503, {"status": "UNAVAILABLE"}, errors_pb2.ERROR_REASON_PROVIDER_ERROR, None, None),
    "strange details": (500, {"details": ["x", {"violations": "y", "fieldViolations": [1]}]},
                        errors_pb2.ERROR_REASON_PROVIDER_ERROR, None, None),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_a_refusal_becomes_one_of_the_gateways_own(name: str) -> None:
    """With the wait and the field that the upstream tells, and none of its words."""
    status, error, reason, wait, param = CASES[name]
    for listed in (False, True):
        found = refusal(status, error, listed=listed)
        assert (found.reason, found.retry_after_s, found.param, found.origin) == (reason, wait, param, "provider")
        assert "canary" not in found.message


def test_what_is_no_error_object_is_judged_by_its_status() -> None:
    """A page of a proxy, an empty body, a text under `error`."""
    for body in (b"<html>", b"", b'{"error":"text"}', b"[]"):
        assert CODEC.decode_error(502, {}, body).reason == errors_pb2.ERROR_REASON_PROVIDER_ERROR
    assert CODEC.decode_error(429, {"retry-after": "7"}, b"").retry_after_s == 7


def test_an_error_under_status_200_is_one() -> None:
    """By its own code, or else by its word, in a document as in place of a stream."""
    body = b'[{"error":{"code":429,"status":"RESOURCE_EXHAUSTED"}}]'
    assert CODEC.error_of_body(body).reason == errors_pb2.ERROR_REASON_PROVIDER_RATE_LIMITED
    with pytest.raises(GatewayError) as caught:
        CODEC.decode_completion(b'{"error":{"status":"UNAUTHENTICATED"}}', pb.CompletionRequest())
    assert caught.value.reason == errors_pb2.ERROR_REASON_PROVIDER_UNAVAILABLE
    for body in (b"no JSON", b"{}", b"[]"):
        assert CODEC.error_of_body(body).reason == errors_pb2.ERROR_REASON_PROVIDER_ERROR
