"""What a Messages body means, and how it is refused: by the name of the field, in the caller's own words."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import completion_pb2 as pb
from tokendance_facade.dialects.messages import request

HELLO = {"role": "user", "content": "Hi"}
TOOL = {"name": "a", "input_schema": {"type": "object"}}


def body(**fields: Any) -> dict[str, Any]:
    """A small request."""
    return {"model": "m", "max_tokens": 9, "messages": [HELLO], **fields}


def decoded(**fields: Any) -> pb.CompletionRequest:
    """What a small request with these fields means."""
    return request.decode(orjson.dumps(body(**fields))).completion


def said(*blocks: Any) -> dict[str, Any]:
    """A request whose user says these blocks."""
    return {"messages": [{"role": "user", "content": list(blocks)}]}


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"model": None}, "model"),
        ({"model": ""}, "model"),
        ({"max_tokens": None}, "max_tokens"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": True}, "max_tokens"),
        ({"messages": None}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": ["x"]}, "messages[0]"),
        ({"messages": [{"content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": 1}]}, "messages[0].content"),
        (said("x"), "messages[0].content[0]"),
        (said({"text": "x"}), "messages[0].content[0].type"),
        (said({"type": 1}), "messages[0].content[0].type"),
        (said({"type": "text"}), "messages[0].content[0].text"),
        (said({"type": "text", "text": "x", "citations": {}}), "messages[0].content[0].citations"),
        (said({"type": "text", "text": "x", "cache_control": 1}), "messages[0].content[0].cache_control"),
        (said({"type": "image"}), "messages[0].content[0].source"),
        (said({"type": "image", "source": {"type": "base64"}}), "messages[0].content[0].source.data"),
        (
            said({"type": "image", "source": {"type": "base64", "data": "?", "media_type": "image/png"}}),
            "messages[0].content[0].source.data",
        ),
        (said({"type": "image", "source": {"type": "url", "url": "file:///x"}}), "messages[0].content[0].source.url"),
        (said({"type": "document", "source": {"type": "file"}}), "messages[0].content[0].source.file_id"),
        (said({"type": "tool_use", "id": "a", "name": "b", "input": "{}"}), "messages[0].content[0].input"),
        (said({"type": "tool_use", "name": "b", "input": {}}), "messages[0].content[0].id"),
        (said({"type": "tool_result"}), "messages[0].content[0].tool_use_id"),
        (
            said({"type": "tool_result", "tool_use_id": "a", "content": [{"type": "text"}]}),
            "messages[0].content[0].content[0].text",
        ),
        (said({"type": "thinking"}), "messages[0].content[0].thinking"),
        (said({"type": "redacted_thinking"}), "messages[0].content[0].data"),
        ({"system": 1}, "system"),
        ({"system": [{"type": "text"}]}, "system[0].text"),
        ({"stream": "yes"}, "stream"),
        ({"temperature": 1.5}, "temperature"),
        ({"top_k": -1}, "top_k"),
        ({"stop_sequences": [1]}, "stop_sequences[0]"),
        ({"tools": [1]}, "tools[0]"),
        ({"tools": [{"input_schema": {}}]}, "tools[0].name"),
        ({"tools": [{"name": "a b", "input_schema": {}}]}, "tools[0].name"),
        ({"tools": [{"name": "a"}]}, "tools[0].input_schema"),
        ({"tools": [TOOL], "tool_choice": {"type": "tool", "name": "b"}}, "tool_choice.name"),
        ({"tool_choice": {"type": "later"}}, "tool_choice.type"),
        ({"thinking": {}}, "thinking.type"),
        ({"thinking": {"type": "enabled"}}, "thinking.budget_tokens"),
        ({"output_config": {"format": {"type": "json_schema"}}}, "output_config.format.schema"),
        ({"metadata": {"user_id": "x" * 513}}, "metadata.user_id"),
        ({f"x{number}": 1 for number in range(300)}, "x256"),
    ],
)
def test_a_wrong_field_is_named(fields: dict[str, Any], param: str) -> None:
    """As an invalid request, by the caller's fault."""
    with pytest.raises(GatewayError) as refused:
        decoded(**fields)
    assert (refused.value.code, refused.value.param, refused.value.origin) == ("invalid_request", param, "caller")


@pytest.mark.parametrize("data", [b"", b"[]", b"{", b"\xff", b'"text"'])
def test_what_is_no_object_is_invalid_json(data: bytes) -> None:
    """The gateway reads nothing else."""
    with pytest.raises(GatewayError) as refused:
        request.decode(data)
    assert refused.value.code == "invalid_json"


def test_only_the_prompt_is_needed_to_count_it() -> None:
    """No cap on an answer that nobody asks for."""
    counted = request.decode_prompt({"model": "m", "messages": [HELLO]}, 10)
    assert not counted.HasField("max_output_tokens")


def test_reasoning_in_each_of_its_ways() -> None:
    """A budget, adaptive with an effort, none; a way of a later version is kept whole."""
    assert decoded(thinking={"type": "enabled", "budget_tokens": 2000}).reasoning.max_tokens == 2000
    adaptive = decoded(thinking={"type": "adaptive", "display": "omitted"}, output_config={"effort": "max"})
    assert (adaptive.reasoning.adaptive, adaptive.reasoning.effort) == (True, "max")
    assert orjson.loads(adaptive.extra_json) == {"thinking": {"display": "omitted"}}
    disabled = decoded(output_config={"effort": "low"}, thinking={"type": "disabled"})
    assert disabled.reasoning.effort == "none"
    assert orjson.loads(disabled.extra_json) == {"output_config": {"effort": "low"}}
    later = decoded(thinking={"type": "between_tools"})
    assert not later.HasField("reasoning")
    assert orjson.loads(later.extra_json) == {"thinking": {"type": "between_tools"}}


def test_a_hosted_tool_may_be_chosen() -> None:
    """By its name, and it is known for what it is."""
    search = {"type": "web_search_20250305", "name": "web_search"}
    asked = decoded(tools=[search, TOOL], tool_choice={"type": "tool", "name": "web_search"})
    assert asked.tool_choice.kind == pb.TOOL_KIND_HOSTED
    assert [tool.kind for tool in asked.tools] == [pb.TOOL_KIND_HOSTED, pb.TOOL_KIND_FUNCTION]


def test_reasoning_that_another_family_sealed_comes_back_to_it() -> None:
    """What stood in the signature behind a mark is what the family sealed."""
    thinking = {"type": "thinking", "thinking": "Hm.", "signature": "sealed.gAAA"}
    (part,) = decoded(messages=[{"role": "assistant", "content": [thinking]}]).messages[0].parts
    assert (part.reasoning.text, part.reasoning.encrypted_content, part.reasoning.signature) == ("Hm.", "gAAA", "")
