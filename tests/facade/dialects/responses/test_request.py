"""Responses requests into the canonical form: what each kind of item becomes, and what is refused by which name."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import completion_pb2 as pb
from tokendance_facade.dialects.responses.request import ResponsesCall, decode


def read(**fields: Any) -> ResponsesCall:
    """Decode a request with these fields."""
    return decode(json.dumps({"model": "m", "input": "Hi", **fields}).encode())


def canonical(**fields: Any) -> pb.CompletionRequest:
    """The canonical form of a request with these fields."""
    return read(**fields).completion


def test_a_text_is_a_message_of_the_user() -> None:
    """The shortest request."""
    (message,) = canonical().messages
    assert (message.role, message.parts[0].text.text) == (pb.ROLE_USER, "Hi")


def test_instructions_come_first_and_are_marked() -> None:
    """Other upstreams take them for a system message; one of this dialect gets them back where they stood."""
    first, second = canonical(instructions="Be brief.").messages
    assert (first.role, first.instructions, first.parts[0].text.text) == (pb.ROLE_SYSTEM, True, "Be brief.")
    assert not second.instructions


def test_what_the_model_said_in_one_go_is_one_turn() -> None:
    """However many items it was written as, so that other upstreams see calls beside each other."""
    items: list[dict[str, Any]] = [
        {"role": "user", "content": "Hi"},
        {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "Hm."}]},
        {"role": "assistant", "id": "msg_1", "content": "Wait."},
        {"type": "function_call", "call_id": "a", "name": "f", "arguments": "{}"},
        {"type": "custom_tool_call", "call_id": "b", "name": "g", "input": "x"},
        {"type": "function_call_output", "call_id": "a", "output": "1"},
        {"type": "custom_tool_call_output", "call_id": "b", "output": "2"},
        {
            "role": "assistant",
            "content": [{"type": "output_text", "text": "Done."}, {"type": "refusal", "refusal": "No."}],
        },
    ]
    messages = canonical(input=items).messages
    assert [message.role for message in messages] == [
        pb.ROLE_USER,
        pb.ROLE_ASSISTANT,
        pb.ROLE_TOOL,
        pb.ROLE_TOOL,
        pb.ROLE_ASSISTANT,
    ]
    kinds = [part.WhichOneof("content") for part in messages[1].parts]
    assert kinds == ["reasoning", "text", "tool_call", "tool_call"]
    assert messages[1].parts[1].item.id == "msg_1"
    assert [part.WhichOneof("content") for part in messages[4].parts] == ["text", "refusal"]


def test_tools_in_namespaces_are_tools() -> None:
    """Each knows its namespace; the first one holds what is said of it."""
    space = {"type": "namespace", "name": "n", "description": "d", "tools": [{"type": "function", "name": "f"}] * 2}
    first, second = canonical(tools=[space]).tools
    assert (first.namespace, second.namespace) == ("n", "n")
    assert (json.loads(first.namespace_json), second.namespace_json) == ({"description": "d"}, "")


def test_tools_of_the_conversation_are_tools_of_the_request() -> None:
    """Codex declares all of its tools so for some models."""
    item = {"type": "additional_tools", "role": "developer", "tools": [{"type": "custom", "name": "exec"}]}
    request = canonical(input=[item, {"role": "user", "content": "Hi"}])
    (tool,) = request.tools
    assert (tool.kind, tool.name, tool.declared_in) == (pb.TOOL_KIND_CUSTOM, "exec", 0)


def test_hosted_tools_and_unknown_items_are_kept_whole() -> None:
    """As they are, in their place."""
    request = canonical(
        tools=[{"type": "web_search", "filters": {"a": 1}}],
        input=[{"type": "web_search_call", "id": "ws_1"}, {"type": "compaction", "encrypted_content": "e"}],
    )
    assert request.tools[0].kind == pb.TOOL_KIND_HOSTED
    assert [message.role for message in request.messages] == [pb.ROLE_ASSISTANT, pb.ROLE_TOOL]
    assert json.loads(request.messages[1].parts[0].native.json) == {"type": "compaction", "encrypted_content": "e"}


def test_settings_have_their_typed_places() -> None:
    """What other upstreams can be told, too."""
    request = canonical(
        reasoning={"effort": "low", "summary": "auto"},
        text={"format": {"type": "json_schema", "name": "n", "schema": {}, "strict": True}, "verbosity": "high"},
        include=["reasoning.encrypted_content", "message.output_text.logprobs"],
        max_output_tokens=7,
        top_logprobs=2,
        tools=[{"type": "function", "name": "f"}],
        tool_choice={"type": "function", "name": "f"},
        parallel_tool_calls=False,
    )
    assert (request.reasoning.effort, request.reasoning.summary) == ("low", "auto")
    assert request.reasoning.include_encrypted
    assert request.response_format.strict
    assert (request.verbosity, request.max_output_tokens) == (pb.VERBOSITY_HIGH, 7)
    assert (request.logprobs.enabled, request.logprobs.top) == (True, 2)
    assert (request.tool_choice.mode, request.tool_choice.name) == (pb.TOOL_CHOICE_MODE_TOOL, "f")
    assert not request.parallel_tool_calls
    assert request.extra_json == ""


def test_nulls_are_absent_fields() -> None:
    """Clients write all they know."""
    names = ("instructions", "tools", "tool_choice", "text", "reasoning", "include", "temperature", "metadata")
    more = ("previous_response_id", "conversation", "background", "store", "stream", "stream_options", "prompt")
    call = read(**dict.fromkeys((*names, *more)))
    assert call.completion == canonical()
    assert not call.stream


def test_storing_is_answered_with_a_warning() -> None:
    """It is served, but not stored."""
    (warning,) = read(store=True).warnings
    assert warning.field == "store"
    assert read(store=False).warnings == ()


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"conversation": {"id": "conv_1"}}, "conversation"),
        ({"prompt": {"id": "pmpt_1"}}, "prompt"),
        ({"background": True}, "background"),
        ({"input": [{"type": "item_reference", "id": "msg_1"}]}, "input[0]"),
        ({"input": [{"id": "msg_1"}]}, "input[0]"),
    ],
)
def test_what_would_have_to_be_stored_is_refused_by_name(fields: dict[str, Any], param: str) -> None:
    """In words that say why."""
    with pytest.raises(GatewayError) as refused:
        read(**fields)
    assert (refused.value.code, refused.value.param) == ("unsupported_parameter", param)
    assert "store" in refused.value.message or "keeps" in refused.value.message


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"model": None}, "model"),
        ({"input": None}, "input"),
        ({"input": []}, "input"),
        ({"input": 1}, "input"),
        ({"input": ["Hi"]}, "input[0]"),
        ({"input": [{}]}, "input[0].type"),
        ({"input": [{"role": "robot", "content": "Hi"}]}, "input[0].role"),
        ({"input": [{"type": "message", "content": "Hi"}]}, "input[0].role"),
        ({"input": [{"role": "user"}]}, "input[0].content"),
        ({"input": [{"role": "user", "content": [{}]}]}, "input[0].content[0].type"),
        ({"input": [{"role": "user", "content": [{"type": "input_image"}]}]}, "input[0].content[0]"),
        (
            {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "ftp://a"}]}]},
            "input[0].content[0].image_url",
        ),
        ({"input": [{"type": "function_call", "name": "f", "arguments": "{}"}]}, "input[0].call_id"),
        ({"input": [{"type": "function_call", "call_id": "a", "name": "f"}]}, "input[0].arguments"),
        ({"input": [{"type": "function_call_output", "call_id": "a"}]}, "input[0].output"),
        ({"input": [{"type": "reasoning", "summary": "text"}]}, "input[0].summary"),
        ({"instructions": 1}, "instructions"),
        ({"max_output_tokens": 0}, "max_output_tokens"),
        ({"temperature": 3}, "temperature"),
        ({"top_logprobs": 21}, "top_logprobs"),
        ({"reasoning": {"effort": "most"}}, "reasoning.effort"),
        ({"text": {"format": {}}}, "text.format.type"),
        ({"text": {"format": {"type": "json_schema", "schema": {}}}}, "text.format.name"),
        ({"tools": [{"name": "f"}]}, "tools[0].type"),
        ({"tools": [{"type": "function"}]}, "tools[0].name"),
        ({"tools": [{"type": "function", "name": "f g"}]}, "tools[0].name"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tool_choice": {"type": "function", "name": "f"}}, "tool_choice.name"),
        ({"include": [1]}, "include[0]"),
        ({"stream": "yes"}, "stream"),
        ({"stream_options": {}}, "stream_options"),
        ({"metadata": {"a": 1}}, "metadata.a"),
        ({"store": "no"}, "store"),
    ],
)
def test_a_field_that_is_wrong_is_named(fields: dict[str, Any], param: str) -> None:
    """By its path in the caller's own request."""
    with pytest.raises(GatewayError) as refused:
        read(**fields)
    assert (refused.value.code, refused.value.param) == ("invalid_request", param)


def test_reasoning_of_strangers_is_taken_as_it_is() -> None:
    """Also where it looks like ours and is none."""
    items: list[Any] = [
        {"type": "reasoning", "id": "r", "summary": [], "encrypted_content": text} for text in ("x", "tdr1.%%")
    ]
    parts = canonical(input=items).messages[0].parts
    assert [part.reasoning.encrypted_content for part in parts] == ["x", "tdr1.%%"]


def test_long_instructions_are_not_repeated() -> None:
    """They would come back three times over in a stream."""
    assert read(instructions="Be brief.").settings["instructions"] == "Be brief."
    assert read(instructions="x" * 300_000).settings["instructions"] is None
