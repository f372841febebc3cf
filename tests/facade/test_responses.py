"""`/v1/responses` over HTTP: its errors, its headers, its signs of life, and what it does not serve."""

from __future__ import annotations

from typing import Any

import pytest
from tests.facade.rig import KEY, Rig, open_rig
from tests.open_responses import check_response, read_events

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import completion_pb2 as pb
from tokendance.gateway.v1 import errors_pb2

PATH = "/v1/responses"


def asked(**fields: Any) -> dict[str, Any]:
    """A small request."""
    return {"model": "m", "input": "Hi", **fields}


def spent() -> GatewayError:
    """The refusal of a call by a quota."""
    told = {"subject": "organizations/o", "metric": "total_tokens", "window": "day", "model": "", "limit": "100"}
    told |= {"spent": "90", "held": "5", "asked": "20", "reset_at": "2026-11-26T00:00:00Z", "remedy": "Wait."}
    return GatewayError(
        errors_pb2.ERROR_REASON_QUOTA_EXCEEDED, "The limit of 100 tokens a day is spent.", metadata=told
    )


async def test_an_answer_has_all_that_is_required(rig: Rig) -> None:
    """Whole and streamed, and `[DONE]` at the end."""
    whole = await rig.post(PATH, asked())
    check_response(await whole.json())
    streamed = await rig.post(PATH, asked(stream=True))
    events = read_events(await streamed.text())
    assert events[-1]["response"]["output"] == (await whole.json())["output"]
    assert [caller.surface for caller in rig.upstream.callers] == [errors_pb2.SURFACE_RESPONSES] * 2


async def test_storing_is_warned_of(rig: Rig) -> None:
    """In the header that tells of everything that is served otherwise, streamed or not."""
    for stream in (False, True):
        answer = await rig.post(PATH, asked(store=True, stream=stream))
        await answer.read()
        assert answer.headers["x-tokendance-warnings"].startswith("store: This gateway stores no answers")


@pytest.mark.parametrize(
    ("reason", "status", "code", "kind"),
    [
        (errors_pb2.ERROR_REASON_MODEL_NOT_ALLOWED, 403, "model_not_found", "invalid_request_error"),
        (errors_pb2.ERROR_REASON_MODEL_NOT_FOUND, 404, "model_not_found", "invalid_request_error"),
        (errors_pb2.ERROR_REASON_UNSUPPORTED_PARAMETER, 400, "invalid_prompt", "invalid_request_error"),
        (errors_pb2.ERROR_REASON_PROVIDER_REJECTED, 400, "invalid_prompt", "invalid_request_error"),
        (errors_pb2.ERROR_REASON_CONTENT_FILTERED, 400, "invalid_prompt", "invalid_request_error"),
        (errors_pb2.ERROR_REASON_CONTEXT_LENGTH_EXCEEDED, 400, "context_length_exceeded", "invalid_request_error"),
        (errors_pb2.ERROR_REASON_QUOTA_EXCEEDED, 429, "quota_exceeded", "usage_limit_reached"),
        (errors_pb2.ERROR_REASON_BUDGET_EXCEEDED, 429, "budget_exceeded", "usage_limit_reached"),
        (errors_pb2.ERROR_REASON_RATE_LIMIT_EXCEEDED, 429, "rate_limit_exceeded", "rate_limit_error"),
        (errors_pb2.ERROR_REASON_INVALID_API_KEY, 401, "invalid_api_key", "invalid_request_error"),
    ],
)
async def test_errors_have_the_codes_that_codex_decides_by(
    rig: Rig, reason: errors_pb2.ErrorReason.ValueType, status: int, code: str, kind: str
) -> None:
    """And their own in the header."""
    rig.upstream.failure = GatewayError(reason, "No.")
    for stream in (False, True):
        answer = await rig.post(PATH, asked(stream=stream))
        error = (await answer.json())["error"]
        assert (answer.status, error["code"], error["type"], error["message"]) == (status, code, kind, "No.")
        own = errors_pb2.ErrorReason.Name(reason).removeprefix("ERROR_REASON_").lower()
        assert answer.headers["x-tokendance-error-code"] == own


async def test_a_spent_quota_tells_when_it_resets(rig: Rig) -> None:
    """In the field and the headers that Codex reads."""
    rig.upstream.failure = spent()
    answer = await rig.post(PATH, asked(stream=True))
    assert (await answer.json())["error"]["resets_at"] == 1795651200
    assert answer.headers["x-codex-primary-used-percent"] == "95.0"
    assert answer.headers["x-codex-primary-window-minutes"] == "1440"
    assert answer.headers["x-codex-primary-reset-at"] == "1795651200"
    assert answer.headers["x-should-retry"] == "false"


async def test_an_answer_tells_how_much_of_the_quota_is_used(rig: Rig) -> None:
    """The limit with less left is the primary one."""
    account = pb.CallAccount(requests=pb.RateStanding(limit=10, remaining=9))
    account.tokens.limit, account.tokens.remaining = 1000, 250
    account.tokens.reset.FromSeconds(60)
    rig.upstream.completion.account.CopyFrom(account)
    rig.upstream.steps[0].started.account.CopyFrom(account)  # type: ignore[union-attr]
    for stream in (False, True):
        answer = await rig.post(PATH, asked(stream=stream))
        await answer.read()
        assert answer.headers["x-codex-primary-used-percent"] == "75.0"
        assert answer.headers["x-codex-secondary-used-percent"] == "10.0"
        assert int(answer.headers["x-codex-primary-reset-at"]) > 1_700_000_000
        assert "x-codex-secondary-reset-at" not in answer.headers


async def test_a_failure_midway_is_a_failed_answer(rig: Rig) -> None:
    """The stream ends as the specification wants it."""
    rig.upstream.steps[3:] = [GatewayError(errors_pb2.ERROR_REASON_PROVIDER_ERROR, "It broke.")]
    events = read_events(await (await rig.post(PATH, asked(stream=True))).text())
    assert events[-2]["error"]["request_id"].startswith("req_")
    assert events[-1]["response"]["error"] == {"code": "server_error", "message": "It broke."}


async def test_silence_is_filled_with_data() -> None:
    """Before the first event with the beginning of the answer, later with events that say nothing."""
    async with open_rig(stream_headers_after_s=0.05, keepalive_s=0.05) as rig:
        rig.upstream.delay_s = 0.08
        rig.upstream.steps.insert(2, 0.12)
        answer = await rig.post(PATH, asked(stream=True))
        kinds = [event["type"] for event in read_events(await answer.text())]
    assert kinds[:2] == ["response.created", "response.in_progress"]
    between = kinds[kinds.index("response.output_text.delta") :]
    assert "keepalive" in between


async def test_a_websocket_is_sent_to_http(rig: Rig) -> None:
    """At once, and without a look at the credential."""
    headers = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "x"}
    answer = await rig.http.get(rig.facade.http_url + PATH, headers=headers)
    assert answer.status == 426
    assert (await answer.json())["error"]["code"] == "websocket_not_served"
    assert (await rig.http.get(rig.facade.http_url + PATH)).status == 405


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "resp_1"),
        ("DELETE", "resp_1"),
        ("POST", "resp_1/cancel"),
        ("GET", "resp_1/input_items"),
        ("POST", "compact"),
    ],
)
async def test_stored_answers_are_not_served(rig: Rig, method: str, path: str) -> None:
    """The error says so, and that a repetition would not help."""
    url = f"{rig.facade.http_url}{PATH}/{path}"
    answer = await rig.http.request(method, url, headers={"Authorization": f"Bearer {KEY}"})
    assert answer.status == 501
    error = (await answer.json())["error"]
    assert (error["code"], "stores no answers" in error["message"]) == ("unimplemented", True)
    assert answer.headers["x-should-retry"] == "false"
    assert (await rig.http.request(method, url)).status == 401


async def test_large_headers_are_taken(rig: Rig) -> None:
    """Codex tells a lot in them."""
    answer = await rig.post(PATH, asked(), x_codex_turn_metadata="a" * 15_000)
    assert answer.status == 200


async def test_client_and_version_are_told(rig: Rig) -> None:
    """As Codex names itself."""
    await rig.post(PATH, asked(), user_agent="codex_exec/0.169.0 (Linux; x86_64)")
    (caller,) = rig.upstream.callers
    assert (caller.client_kind, caller.client_version) == ("codex", "0.169.0")


async def test_a_prompt_is_counted(rig: Rig) -> None:
    """Without a call of the model."""
    rig.upstream.tokens = 17
    answer = await rig.post(f"{PATH}/input_tokens", asked())
    assert await answer.json() == {"object": "response.input_tokens", "input_tokens": 17, "estimated": True}


async def test_a_field_has_its_own_name_here(rig: Rig) -> None:
    """Whatever the dialect of the upstream calls it."""
    rig.upstream.failure = GatewayError(errors_pb2.ERROR_REASON_CONTEXT_LENGTH_EXCEEDED, "Too long.", param="messages")
    answer = await rig.post(PATH, asked())
    assert (await answer.json())["error"]["param"] == "input"
