"""Why the facade's model calls need no second look: whatever its decoders let pass keeps the rules of the schema."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from google.protobuf.message import Message
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.server.services.edge import VALIDATOR

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import completions_service_pb2 as services_pb2
from tokendance_facade.dialects import completions, embeddings
from tokendance_facade.dialects.chat import request as chat
from tokendance_server.services.violations import invalid


def _text(*lengths: int) -> st.SearchStrategy[str]:
    """Texts around the lengths at which rules change, in characters that take one to four bytes."""
    sizes = sorted({max(length + step, 0) for length in (0, *lengths) for step in (-1, 0, 1)})
    return st.builds(lambda size, char: char * size, st.sampled_from(sizes), st.sampled_from("aü世\U0001f600\x00"))


def _numbers(low: float, high: float) -> st.SearchStrategy[Any]:
    return st.sampled_from([low, high, low - 1, high + 1, low - 1e-9, high + 1e-9, 0, -0.0, 1e308, -1, None, "1", True])


_content: st.SearchStrategy[Any] = st.one_of(
    _text(1),
    st.lists(
        st.sampled_from(
            [
                {"type": "text", "text": ""},
                {"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}},
                {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,"}},
                {"type": "image_url", "image_url": {"url": ""}},
                {"type": "input_audio", "input_audio": {"data": "", "format": "wav"}},
                {"type": "file", "file": {"file_id": "f"}},
                {"type": "file", "file": {"file_data": ""}},
                {"type": "refusal", "refusal": "no"},
                {"type": "unknown", "unknown": 1},
            ]
        ),
        max_size=3,
    ),
    st.none(),
)
_calls = st.lists(
    st.sampled_from(
        [
            {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}},
            {"id": "", "type": "function", "function": {"name": "f", "arguments": ""}},
            {"id": "c", "type": "custom", "custom": {"name": "f", "input": ""}},
        ]
    ),
    max_size=2,
)
_message = st.fixed_dictionaries(
    {"role": st.sampled_from(["system", "developer", "user", "assistant", "tool", "function"])},
    optional={
        "content": _content,
        "name": _text(64),
        "tool_calls": _calls,
        "tool_call_id": _text(1),
        "refusal": _text(1),
        "reasoning_content": _text(1),
        "audio": st.just({"id": "a"}),
        "function_call": st.just({"name": "f", "arguments": ""}),
    },
)
_tool = st.one_of(
    st.builds(lambda name: {"type": "function", "function": {"name": name}}, _text(64)),
    st.builds(lambda name: {"type": "custom", "custom": {"name": name}}, _text(64)),
    st.builds(lambda kind: {"type": kind}, _text(128, 256)),
)
_shared: dict[str, st.SearchStrategy[Any]] = {
    "model": _text(1, 256),
    "temperature": _numbers(0, 2),
    "top_p": _numbers(0, 1),
    "frequency_penalty": _numbers(-2, 2),
    "presence_penalty": _numbers(-2, 2),
    "seed": _numbers(-(2**63), 2**63 - 1),
    "stop": st.one_of(_text(1), st.lists(_text(1), max_size=18)),
    "logit_bias": st.dictionaries(_text(1), _numbers(-100, 100), max_size=2),
    "n": _numbers(1, 128),
    "user": _text(512),
    "max_tokens": _numbers(1, 2**63 - 1),
}
_chat: dict[str, st.SearchStrategy[Any]] = {
    **_shared,
    "messages": st.lists(_message, max_size=2),
    "max_completion_tokens": _numbers(1, 2**63 - 1),
    "top_logprobs": _numbers(0, 20),
    "metadata": st.dictionaries(_text(64), _text(512), max_size=18),
    "modalities": st.lists(st.sampled_from(["text", "audio", "image", "x"]), max_size=9),
    "audio": st.builds(lambda form, voice: {"format": form, "voice": voice}, _text(32), _text(256)),
    "response_format": st.sampled_from([{"type": "text"}, {"type": "json_schema", "json_schema": {"name": "n"}}]),
    "reasoning_effort": st.sampled_from(["none", "max", "x"]),
    "service_tier": _text(64),
    "prompt_cache_key": _text(512),
    "safety_identifier": _text(128, 512),
    "tools": st.lists(_tool, max_size=2),
    "tool_choice": st.sampled_from(["auto", "required", {"type": "function", "function": {"name": "a"}}]),
}
_legacy: dict[str, st.SearchStrategy[Any]] = {
    **_shared,
    "prompt": _text(1),
    "logprobs": _numbers(0, 20),
    "best_of": _numbers(1, 128),
}
_tokens = st.lists(st.sampled_from([0, 1, -1, 2**63 - 1]), max_size=3)
_embeddings: dict[str, st.SearchStrategy[Any]] = {
    "model": _text(1, 256),
    "input": st.one_of(_text(1), st.lists(_text(1), max_size=3), _tokens, st.lists(_tokens, max_size=3)),
    "dimensions": _numbers(1, 2**31 - 1),
    "user": _text(512),
}


def _documents(base: dict[str, Any], fields: dict[str, st.SearchStrategy[Any]]) -> st.SearchStrategy[dict[str, Any]]:
    """A good document in which one or two fields are at a bound; more of them would hide each other's errors."""
    pairs = st.sampled_from(sorted(fields)).flatmap(lambda name: st.tuples(st.just(name), fields[name]))
    return st.lists(pairs, min_size=1, max_size=2).map(lambda changed: {**base, **dict(changed)})


@settings(max_examples=300, deadline=None)
@given(document=_documents({"model": "m", "messages": [{"role": "user", "content": "a"}], "logprobs": True}, _chat))
def test_what_chat_lets_pass_keeps_the_rules(document: dict[str, Any]) -> None:
    """Fields at, below and beyond their bounds."""
    _check(document, _chat_request)


@settings(max_examples=150, deadline=None)
@given(document=_documents({"model": "m", "prompt": "a"}, _legacy))
def test_what_legacy_completions_lets_pass_keeps_the_rules(document: dict[str, Any]) -> None:
    """Fields at, below and beyond their bounds."""
    _check(document, lambda body: services_pb2.StreamCompletionRequest(completion=completions.decode(body).completion))


@settings(max_examples=150, deadline=None)
@given(document=_documents({"model": "m", "input": "a"}, _embeddings))
def test_what_embeddings_lets_pass_keeps_the_rules(document: dict[str, Any]) -> None:
    """Fields at, below and beyond their bounds."""
    _check(document, lambda body: services_pb2.CreateEmbeddingsRequest(embeddings=embeddings.decode(body).embeddings))


@pytest.mark.parametrize(
    ("field", "count", "taken"), [("tools", 1024, True), ("tools", 1025, False), ("metadata", 16, True)]
)
def test_long_lists_end_where_the_rules_end(field: str, count: int, taken: bool) -> None:
    """The bounds that are too long to be tried at random."""
    tools = [{"type": "function", "function": {"name": f"f{number}"}} for number in range(count)]
    value: Any = tools if field == "tools" else {f"k{number}": "v" for number in range(count)}
    document = {"model": "m", "messages": [{"role": "user", "content": "a"}], field: value}
    assert _check(document, _chat_request) is taken


def _chat_request(body: bytes) -> services_pb2.CreateCompletionRequest:
    return services_pb2.CreateCompletionRequest(completion=chat.decode(body).completion)


def _check(document: dict[str, Any], decode: Any) -> bool:
    """Return whether the decoder took it; fails where it took what the rules refuse."""
    try:
        body = orjson.dumps(document)
    except TypeError:  # an integer that no JSON text of ours holds
        return False
    try:
        message: Message = decode(body)
    except GatewayError:
        return False
    violations = VALIDATOR.collect_violations(message)
    assert not violations, str(invalid(violations[0]))
    return True


@pytest.mark.parametrize(
    ("place", "bound"), [("request", 1024 * 1024), ("message", 64 * 1024), ("part", 64 * 1024), ("tool", 64 * 1024)]
)
def test_unknown_fields_end_where_the_rules_end(place: str, bound: int) -> None:
    """The text may take this many bytes, however many characters they are: the next one is refused by both."""
    for filling in ("x", "\u4e16"):
        for over in (0, 1):
            room = bound + over - len('{"x":""}')
            size = len(filling.encode())
            unknown = {"x": filling * (room // size) + "x" * (room % size)}
            part: dict[str, Any] = {"type": "text", "text": "a"}
            message: dict[str, Any] = {"role": "user", "content": [part]}
            tool: dict[str, Any] = {"type": "function", "function": {"name": "f"}}
            document: dict[str, Any] = {"model": "m", "messages": [message], "tools": [tool]}
            {"request": document, "message": message, "part": part, "tool": tool}[place].update(unknown)
            assert _check(document, _chat_request) is (over == 0)

    request = _chat_request(orjson.dumps({"model": "m", "messages": [{"role": "user", "content": "a"}]}))
    completion = request.completion
    targets: dict[str, Any] = {
        "request": completion,
        "message": completion.messages[0],
        "part": completion.messages[0].parts[0],
    }
    target = targets.get(place) or completion.tools.add(name="f")
    target.extra_json = "x" * (bound + 1)
    error = invalid(VALIDATOR.collect_violations(request)[0])
    assert error.code == "invalid_request"
    assert str(error.param).endswith("extra_json")
