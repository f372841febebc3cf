"""The official OpenAI SDK for Node as a stranger's client: each script of the folder `node` prints what it saw."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from tests.e2e.fault_table import SENTENCE
from tests.e2e.nodes import Node
from tests.e2e.operator_cli import create_key

RunScript = Callable[..., Any]


def test_chat(run_node_script: RunScript) -> None:
    """Whole answers, streams with and without usage, the stream helper, and structured output."""
    seen = run_node_script("chat.mjs")
    assert seen["whole"]["choices"][0]["message"]["content"] == SENTENCE
    assert seen["whole"]["usage"]["total_tokens"] == 11
    assert seen["requestId"].startswith("req_")
    assert all("usage" not in chunk and len(chunk["choices"]) == 1 for chunk in seen["plain"])
    assert text_of(seen["plain"]) == SENTENCE
    assert seen["plain"][-1]["choices"][0]["finish_reason"] == "stop"
    *chunks, last = seen["counted"]
    assert all(chunk["usage"] is None for chunk in chunks)
    assert text_of(chunks) == SENTENCE
    assert (last["choices"], last["usage"]["total_tokens"]) == ([], 11)
    assert "Hello" in seen["final"]["choices"][0]["message"]["content"]
    assert json.loads(seen["formatted"]).keys() == {"title", "minutes"}


def text_of(chunks: list[Any]) -> str:
    """The text of a stream."""
    return "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks)


def test_tools(run_node_script: RunScript) -> None:
    """A whole turn with tools, one call and two at once, in one message and assembled by the stream helper."""
    turns = run_node_script("tools.mjs")
    assert len(turns) == 6
    for name, turn in turns.items():
        calls = turn["first"]["message"]["tool_calls"]
        names = ["get_weather", "get_forecast"] if "parallel" in name else ["get_weather"]
        assert turn["first"]["finish_reason"] == "tool_calls"
        assert [call["function"]["name"] for call in calls] == names
        assert all(json.loads(call["function"]["arguments"]).keys() == {"city", "days"} for call in calls)
        assert len({call["id"] for call in calls}) == len(calls)
        assert turn["second"]["finish_reason"] == "stop"
        assert turn["second"]["message"]["content"]
        whole = turns[name.replace("True", "False")]
        assert turn["second"]["message"]["content"] == whole["second"]["message"]["content"]


def test_responses(run_node_script: RunScript) -> None:
    """Whole and streamed answers, a loop of tools and structured output, behind each kind of provider; and failures."""
    seen = run_node_script("responses.mjs")
    for told in seen["seen"].values():
        assert told["whole"] == told["final"] == SENTENCE
        assert told["loop"] == {"turns": [["function_call"], ["message"]], "text": "done"}
    assert json.loads(seen["formatted"]).keys() == {"title", "minutes"}
    assert (seen["stored"]["status"], seen["stored"]["code"]) == (501, "unimplemented")
    assert seen["broken"]["code"] == "stream_interrupted"


def test_embeddings_models_and_legacy_completions(run_node_script: RunScript) -> None:
    """What base64 holds is what the floats are; models are listed and found; the old endpoint answers."""
    seen = run_node_script("others.mjs")
    assert seen["packed"] == seen["plain"]
    assert [len(vector) for vector in seen["packed"]] == [16, 16]
    assert {"demo-echo", "acme/sim"} <= set(seen["listed"])
    assert (seen["found"]["id"], seen["found"]["owned_by"]) == ("acme/sim", "acme")
    assert seen["legacy"] == "".join(seen["pieces"]) == SENTENCE


EXPECTED = {
    "401": ("AuthenticationError", "invalid_api_key", "invalid_request_error"),
    "403": ("PermissionDeniedError", "model_not_allowed", "invalid_request_error"),
    "404": ("NotFoundError", "model_not_found", "invalid_request_error"),
    "400": ("BadRequestError", "invalid_request", "invalid_request_error"),
    "413": ("APIError", "request_too_large", "invalid_request_error"),
    "429": ("RateLimitError", "provider_rate_limited", "rate_limit_error"),
    "502": ("InternalServerError", "provider_error", "server_error"),
    "503": ("InternalServerError", "provider_unavailable", "server_error"),
    "504": ("InternalServerError", "provider_timeout", "server_error"),
}


def test_errors(run_node_script: RunScript, node: Node) -> None:
    """Each failure is the SDK's own class, with code, type and request id; final ones are not sent twice."""
    narrow = create_key(node.data_dir, "One model", "--allow-model", "sim")[1]
    seen = run_node_script("errors.mjs", narrow)
    for status, expected in EXPECTED.items():
        failure = seen[status]
        assert (failure["class"], failure["code"], failure["type"]) == expected
        assert failure["status"] == int(status)
        assert failure["requestId"].startswith("req_")
        assert failure["requestId"] == failure["bodyRequestId"]
        assert (failure["shouldRetry"] == "false") == (status < "429")
        assert (failure["retryAfter"] is not None) == (status in ("429", "503"))
    assert seen["400"]["param"] == "temperature"
    for name, code in (("cut", "stream_interrupted"), ("told", "provider_error")):
        assert (seen[name]["class"], seen[name]["code"], seen[name]["status"]) == ("APIError", code, None)
        assert seen[name]["bodyRequestId"].startswith("req_")
        assert seen[name]["text"] == "The quick"
    assert seen["retried"]["status"] == 401
    assert seen["sent"] == 1
