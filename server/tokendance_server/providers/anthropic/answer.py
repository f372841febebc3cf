"""A whole answer of POST /messages as the canonical form. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import completion_pb2 as pb
from tokendance.gateway.v1 import errors_pb2
from tokendance_server.providers import json_text
from tokendance_server.providers.anthropic.content import CUSTOM_INPUT
from tokendance_server.providers.anthropic.errors import error_of_document
from tokendance_server.providers.anthropic.usage import read_usage
from tokendance_server.providers.estimates import size_of

Json = dict[str, Any]

_FINISH: Mapping[str, pb.FinishReason.ValueType] = {
    "end_turn": pb.FINISH_REASON_STOP,
    "stop_sequence": pb.FINISH_REASON_STOP,
    "max_tokens": pb.FINISH_REASON_LENGTH,
    "model_context_window_exceeded": pb.FINISH_REASON_LENGTH,
    "tool_use": pb.FINISH_REASON_TOOL_CALLS,
    "refusal": pb.FINISH_REASON_CONTENT_FILTER,
    "pause_turn": pb.FINISH_REASON_PAUSE,
}
_STOP_LIKE = frozenset({pb.FINISH_REASON_STOP, pb.FINISH_REASON_OTHER})

_ANSWER = frozenset({"id", "type", "role", "model", "content", "stop_reason", "stop_sequence", "usage"})
# Servers that imitate the API name their own upstreams and hosts here: not for callers.
_HIDDEN = frozenset({"provider", "provider_name", "organization", "organization_id", "workspace_id", "host", "error"})
_TEXT = frozenset({"type", "text", "citations"})
_TOOL_USE = frozenset({"type", "id", "name", "input"})
_THINKING = frozenset({"type", "thinking", "signature"})
_REDACTED = frozenset({"type", "data"})


def read_answer(body: bytes, request: pb.CompletionRequest, mint: Callable[[], str]) -> pb.Completion:
    """Return the answer to `request`; `mint` makes ids for calls without one.

    Raises the provider family's errors: an error under status 200, no JSON, no content.
    """
    document = read_document(body)
    content = document.get("content")
    if not isinstance(content, list) or not all(isinstance(block, dict) for block in content):
        raise unreadable()
    completion = pb.Completion(
        id=text_of(document.get("id")),
        model=text_of(document.get("model")),
        dialect=pb.DIALECT_ANTHROPIC_MESSAGES,
        extra_json=json_text.write_object(unknown_answer_fields(document)),
    )
    choice = completion.choices.add()
    choice.message.role = pb.ROLE_ASSISTANT
    custom = custom_tools(request)
    size = sum(_read_block(block, choice.message.parts.add(), custom, mint) for block in content)
    called = any(part.HasField("tool_call") for part in choice.message.parts)
    choice.native_finish_reason = text_of(document.get("stop_reason"))
    choice.finish_reason = finish_reason(choice.native_finish_reason, called=called)
    choice.stop_sequence = text_of(document.get("stop_sequence"))
    counts = document.get("usage")
    completion.usage.CopyFrom(read_usage(counts if isinstance(counts, dict) else {}, request, size))
    completion.service_tier = text_of(counts.get("service_tier")) if isinstance(counts, dict) else ""
    return completion


def read_document(body: bytes) -> Json:
    """Return the JSON object of a body; raises provider_error, or the error that it holds."""
    try:
        document = json_text.read_lenient(body)
    except json_text.UNREADABLE:
        raise unreadable() from None
    if not isinstance(document, dict):
        raise unreadable()
    error = error_of_document(document)
    if error is not None:
        raise error
    return document


def custom_tools(request: pb.CompletionRequest) -> frozenset[str]:
    """Return the names of the custom tools, which this API knows as functions of one text."""
    return frozenset(tool.name for tool in request.tools if tool.kind == pb.TOOL_KIND_CUSTOM)


def custom_input(arguments: Any) -> str:
    """Return the free text in the arguments of the function that stands for a custom tool."""
    text = arguments.get(CUSTOM_INPUT) if isinstance(arguments, dict) else None
    return text if isinstance(text, str) else json_text.write(arguments)


def finish_reason(native: str, *, called: bool) -> pb.FinishReason.ValueType:
    """Return why an answer ended. `called`: it holds a call; some servers say `end_turn` then."""
    reason = _FINISH.get(native, pb.FINISH_REASON_OTHER if native else pb.FINISH_REASON_STOP)
    return pb.FINISH_REASON_TOOL_CALLS if called and reason in _STOP_LIKE else reason


def read_citation(citation: Json) -> pb.Citation:
    """Return a source, with the citation as it was written."""
    title = text_of(citation.get("title")) or text_of(citation.get("document_title"))
    return pb.Citation(
        url=text_of(citation.get("url")),
        title=title,
        cited_text=text_of(citation.get("cited_text")),
        native_json=json_text.write(citation),
    )


def unknown_answer_fields(document: Json) -> Json:
    """Return the fields of an answer that have no typed place, without those that are nobody's business."""
    return {
        name: value
        for name, value in document.items()
        if name not in _ANSWER and name not in _HIDDEN and value is not None
    }


def unknown_block_fields(block: Json) -> Json:
    """Return the fields of a block of a known type that have no typed place."""
    known = {"text": _TEXT, "tool_use": _TOOL_USE, "thinking": _THINKING, "redacted_thinking": _REDACTED}
    names = known[block["type"]]
    return {name: value for name, value in block.items() if name not in names and value is not None}


def _read_block(block: Json, into: pb.Part, custom: frozenset[str], mint: Callable[[], str]) -> int:
    """Fill in one part; return the bytes of text in it."""
    kind = block.get("type")
    if kind == "text":
        into.text.text = text_of(block.get("text"))
        citations = block.get("citations")
        into.text.citations.extend(read_citation(one) for one in citations or () if isinstance(one, dict))
        size = size_of(into.text.text)
    elif kind == "tool_use":
        size = _read_call(block, into.tool_call, custom, mint)
    elif kind == "thinking":
        into.reasoning.text = text_of(block.get("thinking"))
        into.reasoning.signature = text_of(block.get("signature"))
        size = size_of(into.reasoning.text)
    elif kind == "redacted_thinking":
        into.reasoning.encrypted_content = text_of(block.get("data"))
        into.reasoning.redacted = True
        size = 0
    else:
        into.native.dialect = pb.DIALECT_ANTHROPIC_MESSAGES
        into.native.type = text_of(kind)
        into.native.json = json_text.write(block)
        return 0
    into.extra_json = json_text.write_object(unknown_block_fields(block))
    return size


def _read_call(block: Json, into: pb.ToolCall, custom: frozenset[str], mint: Callable[[], str]) -> int:
    into.id = text_of(block.get("id")) or mint()
    into.name = text_of(block.get("name"))
    given = block.get("input")
    if not into.name:
        raise unreadable()
    if into.name in custom:
        into.kind = pb.TOOL_KIND_CUSTOM
        into.input = custom_input(given)
        return size_of(into.input)
    into.kind = pb.TOOL_KIND_FUNCTION
    into.arguments_json = json_text.write({} if given is None else given)
    return size_of(into.arguments_json) + size_of(into.name)


def unreadable() -> GatewayError:
    """Return the error for an answer that is none of this API."""
    return GatewayError(
        errors_pb2.ERROR_REASON_PROVIDER_ERROR,
        "The model's provider sent an answer that cannot be read; send the request again.",
        origin="provider",
    )


def interrupted() -> GatewayError:
    """Return the error for an answer that its upstream did not bring to an end."""
    return GatewayError(
        errors_pb2.ERROR_REASON_STREAM_INTERRUPTED,
        "The answer of the model's provider broke off; what came is incomplete. Send the request again.",
        origin="provider",
    )


def text_of(value: Any) -> str:
    """Return a text as it is, and anything else as none."""
    return value if isinstance(value, str) else ""
