"""The one table of wire formats."""

import pytest

from tokendance.gateway.v1 import completion_pb2 as pb
from tokendance_server.providers import CapsOutput
from tokendance_server.providers.wire_formats import KINDS, WIRE_FORMATS, check_kind


@pytest.mark.parametrize("kind", WIRE_FORMATS)
def test_each_wire_format_refuses_a_capability_that_it_does_not_know(kind: str) -> None:
    """A typing error must not pass for a capability."""
    check_kind(kind)
    with pytest.raises(ValueError, match="unknown capabilities: no_such"):
        check_kind(kind, {"no_such"})


def test_what_is_no_kind_is_told_with_those_that_are() -> None:
    """And the demo has nothing to choose."""
    with pytest.raises(ValueError, match=f"there is no kind 'other'; known are {', '.join(KINDS)}"):
        check_kind("other")
    check_kind("demo")
    with pytest.raises(ValueError, match="the built-in demo has no capabilities"):
        check_kind("demo", {"bearer"})


def test_a_tool_of_free_text_is_a_function_to_gemini_and_free_text_to_its_caller() -> None:
    """Its grammar is left out, and named."""
    codec = WIRE_FORMATS["gemini"]()
    request = pb.CompletionRequest(tools=[pb.Tool(kind=pb.TOOL_KIND_CUSTOM, name="patch", format_json='{"type":"x"}')])
    request.messages.add(role=pb.ROLE_USER, parts=[pb.Part(text=pb.Text(text="Hi"))])
    assert [warning.field for warning in codec.warnings(request)] == ["tools[0].format"]
    assert b'"parametersJsonSchema"' in codec.encode_completion(request, "m", stream=False).body
    call = b'{"functionCall":{"name":"patch","args":{"input":"*** Begin"}}}'
    body = b'{"candidates":[{"content":{"parts":[%b]},"finishReason":"STOP"}]}' % call
    called = codec.decode_completion(body, request).choices[0].message.parts[0].tool_call
    assert (called.kind, called.name, called.input) == (pb.TOOL_KIND_CUSTOM, "patch", "*** Begin")


def test_a_wire_format_that_must_name_a_cap_is_given_the_models() -> None:
    """Whatever stands around its codec."""
    codec = WIRE_FORMATS["anthropic"]()
    assert isinstance(codec, CapsOutput)
    assert codec.capped(pb.CompletionRequest(), 77).max_output_tokens == 77
    assert codec.capped(pb.CompletionRequest(max_output_tokens=5), 77).max_output_tokens == 5
