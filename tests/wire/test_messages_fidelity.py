"""Whoever speaks Messages to a model that speaks it loses nothing on the way, there or back, whatever the fields."""

from __future__ import annotations

import copy
import string
from typing import Any

import orjson
import protovalidate
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tokendance.gateway.v1 import completion_pb2 as pb
from tokendance.gateway.v1 import completions_service_pb2
from tokendance_facade.dialects.messages import answer, request
from tokendance_facade.dialects.messages.stream import MessagesStreamEncoder
from tokendance_server.providers.anthropic import AnthropicCodec

CODEC = AnthropicCodec()
VALIDATOR = protovalidate.Validator()
ASKED = pb.CompletionRequest(model="m", max_output_tokens=9)
BOUNDED = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow], phases=(Phase.generate,)
)

TEXT = st.text(max_size=5)
WORD = st.sampled_from(["a", "b_1", "C-d", "x" * 64]) | st.text(string.ascii_letters, min_size=1, max_size=3)
NUMBER = st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)
JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | NUMBER | TEXT,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(TEXT, inner, max_size=2),
    max_leaves=3,
)
EXTRA = st.dictionaries(st.sampled_from(["x_one", "x-two", "Three"]), JSON, max_size=2)
URL = WORD.map(lambda name: f"https://example.com/{name}")
BASE64 = st.sampled_from(["", "YQ==", "YWI=", "YWJj", "////"]).filter(bool)


def with_extra(**fields: Any) -> st.SearchStrategy[dict[str, Any]]:
    """An object of these fields, those that are strategies drawn, and of some that nobody knows."""
    drawn = {name: value if isinstance(value, st.SearchStrategy) else st.just(value) for name, value in fields.items()}
    optional = {name.removeprefix("maybe_"): value for name, value in drawn.items() if name.startswith("maybe_")}
    required = {name: value for name, value in drawn.items() if not name.startswith("maybe_")}
    known = st.fixed_dictionaries(required, optional=optional)
    return st.tuples(known, EXTRA).map(lambda both: {**both[1], **both[0]})


CACHE = with_extra(type="ephemeral", maybe_ttl=st.sampled_from(["5m", "1h", "30m"]))
SCHEMA = st.dictionaries(TEXT, JSON, max_size=3)
CITATION = with_extra(type=WORD, maybe_cited_text=TEXT, maybe_url=URL, maybe_title=TEXT | st.none())
TEXT_BLOCK = with_extra(
    type="text",
    text=TEXT,
    maybe_cache_control=CACHE,
    maybe_citations=st.lists(CITATION, min_size=1, max_size=2),
)
SOURCE = st.one_of(
    with_extra(type="base64", media_type=st.sampled_from(["image/png", "application/pdf"]), data=BASE64),
    with_extra(type="url", url=URL),
    with_extra(type="file", file_id=WORD),
    with_extra(type=st.sampled_from(["content", "of_a_later_version"]), content=JSON),
)
IMAGE = with_extra(type="image", source=SOURCE, maybe_cache_control=CACHE)
PLAIN_SOURCE = with_extra(type="text", media_type="text/plain", data=TEXT)
DOCUMENT = with_extra(
    type="document",
    source=SOURCE | PLAIN_SOURCE,
    maybe_title=st.text(min_size=1, max_size=9),
    maybe_context=TEXT,
    maybe_citations=with_extra(enabled=st.booleans()),
    maybe_cache_control=CACHE,
)
OTHER = with_extra(type=WORD.map(lambda name: f"later_{name}"), maybe_cache_control=JSON)
RESULT = with_extra(
    type="tool_result",
    tool_use_id=WORD,
    maybe_content=TEXT | st.lists(TEXT_BLOCK | IMAGE | DOCUMENT | OTHER, min_size=1, max_size=2),
    maybe_is_error=True,
    maybe_cache_control=CACHE,
)
CALL = with_extra(type="tool_use", id=WORD, name=WORD, input=SCHEMA, maybe_cache_control=CACHE)
THINKING = with_extra(type="thinking", thinking=TEXT, signature=WORD)
SEALED = with_extra(type="redacted_thinking", data=WORD)
BLOCK = st.one_of(TEXT_BLOCK, IMAGE, DOCUMENT, RESULT, CALL, THINKING, SEALED, OTHER)
MESSAGE = with_extra(
    role=st.sampled_from(["user", "assistant", "system"]),
    content=TEXT | st.lists(BLOCK, max_size=3),
)
TOOL = st.one_of(
    with_extra(
        name=WORD,
        input_schema=SCHEMA,
        maybe_description=st.text(min_size=1, max_size=9),
        maybe_strict=st.booleans(),
        maybe_cache_control=CACHE,
    ),
    with_extra(type=WORD.map(lambda name: f"hosted_{name}"), name=WORD, maybe_cache_control=CACHE),
)
THINKS = st.one_of(
    with_extra(type="enabled", budget_tokens=st.integers(1024, 1999), maybe_display=WORD),
    with_extra(type="adaptive", maybe_display=WORD),
    with_extra(type="disabled"),
    with_extra(type="between_tools"),
)
CHOICE = st.one_of(
    *(with_extra(type=kind, maybe_disable_parallel_tool_use=st.booleans()) for kind in ("auto", "any", "none"))
)
FORMAT = with_extra(type="json_schema", schema=SCHEMA) | with_extra(type="of_a_later_version")
REQUEST = with_extra(
    model=WORD,
    max_tokens=st.integers(2000, 10**9),
    messages=st.lists(MESSAGE, min_size=1, max_size=3),
    maybe_system=st.text(min_size=1, max_size=9) | st.lists(TEXT_BLOCK, min_size=1, max_size=2),
    maybe_stop_sequences=st.lists(TEXT, min_size=1, max_size=40),
    maybe_tools=st.lists(TOOL, min_size=1, max_size=3),
    maybe_tool_choice=CHOICE,
    maybe_thinking=THINKS,
    maybe_output_config=with_extra(
        maybe_effort=st.sampled_from(["low", "medium", "high", "xhigh", "max", "later"]), maybe_format=FORMAT
    ),
    maybe_metadata=with_extra(maybe_user_id=st.text(min_size=1, max_size=20)),
    maybe_service_tier=WORD,
    maybe_temperature=st.floats(0, 1),
    maybe_top_p=st.floats(0, 1),
    maybe_top_k=st.integers(0, 100),
    maybe_cache_control=JSON,
    maybe_context_management=JSON,
    maybe_container=JSON,
    maybe_mcp_servers=JSON,
)


def plain(body: dict[str, Any]) -> dict[str, Any]:
    """A body with every content as blocks, empty objects that say nothing left out, and without what is ours."""
    body = copy.deepcopy(body)
    for name in ("model", "stream"):
        body.pop(name, None)
    for name in ("output_config", "metadata"):
        if body.get(name) == {}:
            del body[name]
    if "system" in body:
        body["system"] = blocks(body["system"])
    for message in body["messages"]:
        message["content"] = blocks(message["content"])
        for block in message["content"]:
            if block["type"] == "tool_result" and "content" in block:
                block["content"] = blocks(block["content"])
    return body


def blocks(content: Any) -> Any:
    """A content as blocks."""
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


@BOUNDED
@given(REQUEST, st.booleans())
def test_a_request_reaches_its_own_dialect_whole(sent: dict[str, Any], streamed: bool) -> None:
    """Every field at every level, known or not, in its place; and what is asked of the server keeps its rules."""
    call = request.decode(orjson.dumps({**sent, "stream": streamed}))
    asked = completions_service_pb2.CreateCompletionRequest(completion=call.completion)
    VALIDATOR.validate(asked)
    arrived = completions_service_pb2.CreateCompletionRequest.FromString(asked.SerializeToString()).completion
    assert list(CODEC.warnings(arrived)) == []
    written = orjson.loads(CODEC.encode_completion(arrived, "upstream", stream=call.stream).body)
    assert written["model"] == "upstream"
    assert written.get("stream", False) is streamed
    first, *_ = sent["messages"]
    if "system" not in sent and first["role"] == "system" and first.keys() == {"role", "content"}:
        # Instructions at the beginning of the conversation are what `system` is for.
        sent = {**sent, "system": first["content"], "messages": sent["messages"][1:]}
    assert plain(written) == plain(sent)


USAGE = with_extra(
    input_tokens=st.integers(0, 10**6),
    output_tokens=st.integers(500, 10**6),
    cache_creation_input_tokens=st.integers(0, 10**6),
    cache_read_input_tokens=st.integers(0, 10**6),
    maybe_output_tokens_details=with_extra(thinking_tokens=st.integers(1, 400)),
    maybe_service_tier=WORD,
)
SPOKEN = st.one_of(TEXT_BLOCK, CALL, THINKING, SEALED, OTHER)


def told(extra: dict[str, Any]) -> dict[str, Any]:
    """Fields of an answer without those that are absent: a null says the same."""
    return {name: value for name, value in extra.items() if value is not None}


STOPS = st.sampled_from(["end_turn", "max_tokens", "refusal", "pause_turn", "model_context_window_exceeded", "later"])


@BOUNDED
@given(with_extra(content=st.lists(SPOKEN, max_size=3), stop_reason=STOPS, usage=USAGE, maybe_container=JSON))
def test_an_answer_comes_back_whole(sent: dict[str, Any]) -> None:
    """Every field but the id and the model's name."""
    called = any(block["type"] == "tool_use" for block in sent["content"])
    document = {"id": "msg_1", "type": "message", "role": "assistant", "model": "u", "stop_sequence": None, **sent}
    completion = CODEC.decode_completion(orjson.dumps(document), ASKED)
    completion.id, completion.model = "cmpl_1", "public"
    came = orjson.loads(answer.encode(completion))
    expected = told(document) | {"id": "msg_1", "model": "public", "stop_sequence": None}
    expected["content"] = [told(block) for block in document["content"]]
    came["content"] = [told(block) for block in came["content"]]
    if called and sent["stop_reason"] in ("end_turn", "later"):
        expected["stop_reason"] = "tool_use"
    assert came == expected


DELTAS: dict[str, st.SearchStrategy[list[dict[str, Any]]]] = {
    "text": st.lists(
        st.one_of(
            st.fixed_dictionaries({"type": st.just("text_delta"), "text": st.text(min_size=1, max_size=5)}),
            st.fixed_dictionaries({"type": st.just("citations_delta"), "citation": CITATION}),
            with_extra(type="later_delta"),
        ),
        max_size=3,
    ),
    "thinking": st.lists(
        st.one_of(
            st.fixed_dictionaries({"type": st.just("thinking_delta"), "thinking": st.text(min_size=1, max_size=5)}),
            st.fixed_dictionaries({"type": st.just("signature_delta"), "signature": WORD}),
            with_extra(type="later_delta"),
        ),
        min_size=1,
        max_size=3,
    ),
    "tool_use": st.just([{"type": "input_json_delta", "partial_json": piece} for piece in ('{"a"', ":1}")]),
}
BEGINNINGS = {
    "text": with_extra(type="text", text=""),
    "thinking": with_extra(type="thinking", thinking="", signature=""),
    "tool_use": with_extra(type="tool_use", id=WORD, name=WORD, input={}),
    "redacted_thinking": SEALED,
    "later": OTHER,
}


@st.composite
def streamed_block(draw: st.DrawFn) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A block as it begins, and its deltas."""
    kind = draw(st.sampled_from(sorted(BEGINNINGS)))
    if kind == "later":
        return draw(BEGINNINGS[kind]), draw(
            st.lists(with_extra(type="input_json_delta", partial_json=TEXT), max_size=2)
        )
    deltas = draw(DELTAS[kind]) if kind in DELTAS else []
    if kind == "text" and not any(delta["type"] != "later_delta" for delta in deltas):
        deltas = [{"type": "text_delta", "text": "x"}, *deltas]
    if kind == "thinking" and deltas[0]["type"] == "later_delta":
        deltas = [{"type": "thinking_delta", "thinking": "x"}, *deltas]
    if kind == "text" and deltas[0]["type"] == "later_delta":
        deltas = [delta for delta in deltas if delta["type"] != "later_delta"]
    return draw(BEGINNINGS[kind]), deltas


def frames(events: list[dict[str, Any]]) -> bytes:
    """Events on the wire."""
    return b"".join(b"event: %b\ndata: %b\n\n" % (one["type"].encode(), orjson.dumps(one)) for one in events)


@BOUNDED
@given(st.lists(streamed_block(), max_size=4), USAGE, EXTRA, EXTRA, EXTRA, STOPS)
def test_a_stream_comes_back_event_by_event(  # noqa: PLR0917 - one for each level of the wire
    sent: list[tuple[dict[str, Any], list[dict[str, Any]]]],
    usage: dict[str, Any],
    begun: dict[str, Any],
    ended: dict[str, Any],
    beside: dict[str, Any],
    stop: str,
) -> None:
    """In the same order and with the same fields, whatever the size of the pieces in which they come."""
    usage = told(usage)
    message = {"id": "msg_1", "type": "message", "role": "assistant", "model": "u", "content": [], **told(begun)}
    message |= {"stop_reason": None, "stop_sequence": None, "usage": usage}
    events: list[dict[str, Any]] = [{"type": "message_start", "message": message}]
    for index, (start, deltas) in enumerate(sent):
        events.append({"type": "content_block_start", "index": index, "content_block": told(start)})
        events += [{"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas]
        events.append({"type": "content_block_stop", "index": index})
    delta = {"stop_reason": stop, "stop_sequence": None, **told(ended)}
    if any(start["type"] == "tool_use" for start, _ in sent):
        delta["stop_reason"] = "tool_use"
    events.append({"type": "message_delta", "delta": delta, "usage": usage, **told(beside)})
    events.append({"type": "message_stop"})
    decoder, encoder = CODEC.stream_decoder(ASKED), MessagesStreamEncoder()
    wire = b""
    data = frames(events)
    for at in range(0, len(data), 50):
        wire += encoder.feed(decoder.feed(data[at : at + 50]))
    wire += encoder.feed(decoder.close())
    came = [orjson.loads(frame.partition(b"data: ")[2]) for frame in wire.split(b"\n\n") if frame]
    assert [one for one in came if one["type"] != "ping"] == events
