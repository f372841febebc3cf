"""A whole answer of POST /responses as the canonical form. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import completion_pb2 as pb
from tokendance_server.providers import json_text
from tokendance_server.providers.estimates import size_of
from tokendance_server.providers.openai.answer import (
    MOST_SECONDS,
    arguments_of,
    int_of,
    interrupted,
    read_document,
    read_logprobs,
    text_of,
    unknown_of,
    unreadable,
)
from tokendance_server.providers.openai.errors import error_of_event
from tokendance_server.providers.openai_responses.usage import read_usage

Json = dict[str, Any]

DIALECT = pb.DIALECT_OPENAI_RESPONSES

_REASONS = {
    "max_output_tokens": pb.FINISH_REASON_LENGTH,
    "content_filter": pb.FINISH_REASON_CONTENT_FILTER,
}
_CALLERS_FAULT = frozenset({"invalid_prompt", "cyber_policy", "bio_policy", "misalignment_policy_violation"})
_FILTERED = frozenset({"image_content_policy_violation"})

CALLS = frozenset({"function_call", "custom_tool_call"})
KNOWN_ITEMS = CALLS | {"message", "reasoning"}
MESSAGE_FIELDS = frozenset({"id", "type", "status", "role", "content", "phase"})
FUNCTION_FIELDS = frozenset({"id", "type", "status", "call_id", "name", "namespace", "arguments"})
CUSTOM_FIELDS = frozenset({"id", "type", "status", "call_id", "name", "namespace", "input"})
REASONING_FIELDS = frozenset({"id", "type", "status", "summary", "content", "encrypted_content"})
_TEXT_FIELDS = frozenset({"type", "text", "annotations", "logprobs"})
_REFUSAL_FIELDS = frozenset({"type", "refusal"})

# Of the answer itself: what is typed or the gateway's own, and where an upstream names itself or its prices.
_NOT_HANDED_ON = frozenset(
    {"id", "object", "created_at", "completed_at", "status", "background", "error", "incomplete_details", "model",
     "output", "previous_response_id", "conversation", "service_tier", "store", "usage",
     "billing", "cost", "organization", "provider", "provider_name", "system_fingerprint"}
)  # fmt: skip


def read_answer(body: bytes, request: pb.CompletionRequest, mint: Callable[[], str]) -> pb.Completion:
    """Return the answer to `request`; `mint` makes ids for calls without one.

    Raises the provider family's errors: an error under status 200, no JSON, no output, an answer that failed.
    """
    document = read_document(body)
    check_status(document)
    items = document.get("output")
    if not isinstance(items, list):
        raise unreadable()
    completion = pb.Completion(
        id=text_of(document.get("id")),
        model=text_of(document.get("model")),
        created=int_of(document.get("created_at"), below=MOST_SECONDS),
        service_tier=text_of(document.get("service_tier")),
        dialect=DIALECT,
    )
    choice = completion.choices.add()
    choice.message.role = pb.ROLE_ASSISTANT
    size = sum(_read_item(item, choice, mint) for item in items if isinstance(item, dict))
    called = any(part.HasField("tool_call") for part in choice.message.parts)
    choice.finish_reason, choice.native_finish_reason = finish_of(document, called=called)
    completion.usage.CopyFrom(read_usage(document.get("usage"), request, size))
    completion.extra_json = extra_of(document)
    return completion


def check_status(document: Json) -> None:
    """Raise what an answer means that its upstream calls failed or cancelled."""
    status = document.get("status")
    if status == "failed":
        raise failure_of(document.get("error"))
    if status in ("cancelled", "queued"):
        raise interrupted()


def failure_of(error: Any) -> GatewayError:
    """Return the error for what a failed answer tells of its failure."""
    if not isinstance(error, dict):
        return interrupted()
    if error.get("code") in _CALLERS_FAULT:
        error = {"type": "invalid_request_error", **error}
    if error.get("code") in _FILTERED:
        error = {**error, "type": "invalid_request_error", "code": "content_policy_violation"}
    return error_of_event(error)


def finish_of(document: Json, *, called: bool) -> tuple[pb.FinishReason.ValueType, str]:
    """Return why an answer ended, and in its upstream's word."""
    if document.get("status") != "incomplete":
        return pb.FINISH_REASON_TOOL_CALLS if called else pb.FINISH_REASON_STOP, "completed"
    details = document.get("incomplete_details")
    word = text_of(details.get("reason")) if isinstance(details, dict) else ""
    return _REASONS.get(word, pb.FINISH_REASON_OTHER if word else pb.FINISH_REASON_LENGTH), word or "incomplete"


def extra_of(document: Json) -> str:
    """Return the fields of an answer that only this dialect knows, or that repeat the request."""
    return json_text.write_object(
        {name: value for name, value in document.items() if name not in _NOT_HANDED_ON and value is not None}
    )


def message_extra(item: Json) -> Json:
    """Return what pieces of text do not say of a message: its unknown fields, and its content where that has some."""
    extra = unknown_of(item, MESSAGE_FIELDS)
    content = item.get("content")
    listed = [part for part in content if isinstance(part, dict)] if isinstance(content, list) else []
    if any(unknown_of(part, _REFUSAL_FIELDS if part.get("type") == "refusal" else _TEXT_FIELDS) for part in listed):
        extra["content"] = listed
    return extra


def call_extra(item: Json) -> str:
    """Return the unknown fields of an item of a call."""
    known = FUNCTION_FIELDS if item.get("type") == "function_call" else CUSTOM_FIELDS
    return json_text.write_object(unknown_of(item, known))


def reasoning_extra(item: Json) -> Json:
    """Return what the plain texts of an item of reasoning do not say."""
    extra = unknown_of(item, REASONING_FIELDS)
    for name, kind in (("summary", "summary_text"), ("content", "reasoning_text")):
        parts = item.get(name)
        listed = parts if isinstance(parts, list) else []
        plain = all(
            isinstance(part, dict) and part.keys() <= {"type", "text"} and part.get("type") == kind for part in listed
        )
        if not plain or (name == "content" and len(listed) > 1):
            extra[name] = listed
    return extra


def read_citation(annotation: Json) -> pb.Citation:
    """Return the source that an annotation cites; the annotation itself stands beside it."""
    citation = pb.Citation(native_json=json_text.write(annotation))
    if annotation.get("type") == "url_citation":
        citation.url = text_of(annotation.get("url"))
        citation.title = text_of(annotation.get("title"))
        for name in ("start_index", "end_index"):
            if type(annotation.get(name)) is int:
                setattr(citation, name, int_of(annotation[name]))
    return citation


def texts_of(parts: Any) -> list[str]:
    """Return the texts of a list of parts."""
    return [text_of(part.get("text")) for part in parts if isinstance(part, dict)] if isinstance(parts, list) else []


def _read_item(item: Json, choice: pb.Choice, mint: Callable[[], str]) -> int:
    """Add one item to the turn; return the bytes of text in it."""
    kind = text_of(item.get("type"))
    if kind == "message":
        return _read_message(item, choice)
    part = choice.message.parts.add()
    if kind in CALLS:
        return _read_call(item, part, mint)
    if kind == "reasoning":
        return _read_reasoning(item, part)
    part.native.dialect = DIALECT
    part.native.type = kind
    part.native.json = json_text.write(item)
    return 0


def _read_message(item: Json, choice: pb.Choice) -> int:
    content = item.get("content")
    parts = [part for part in content if isinstance(part, dict)] if isinstance(content, list) else []
    size = 0
    for number, said in enumerate(parts or [{"type": "output_text", "text": ""}]):
        part = choice.message.parts.add()
        if not number:
            part.item.id = text_of(item.get("id"))
            part.item.status = text_of(item.get("status"))
            part.item.phase = text_of(item.get("phase"))
            part.item.extra_json = json_text.write_object(unknown_of(item, MESSAGE_FIELDS))
        if said.get("type") == "refusal":
            part.refusal.text = text_of(said.get("refusal"))
            part.extra_json = json_text.write_object(unknown_of(said, _REFUSAL_FIELDS))
            size += size_of(part.refusal.text)
        else:
            part.text.text = text_of(said.get("text"))
            annotations = said.get("annotations")
            listed = annotations if isinstance(annotations, list) else []
            part.text.citations.extend(read_citation(one) for one in listed if isinstance(one, dict))
            choice.logprobs.extend(read_logprobs(said.get("logprobs")))
            part.extra_json = json_text.write_object(unknown_of(said, _TEXT_FIELDS))
            size += size_of(part.text.text)
    return size


def _read_call(item: Json, part: pb.Part, mint: Callable[[], str]) -> int:
    call = part.tool_call
    call.id = text_of(item.get("call_id")) or mint()
    call.name = text_of(item.get("name"))
    if not call.name:
        raise unreadable()
    call.namespace = text_of(item.get("namespace"))
    call.item_id = text_of(item.get("id"))
    if item.get("type") == "function_call":
        call.kind = pb.TOOL_KIND_FUNCTION
        call.arguments_json = arguments_of(item.get("arguments"))
    else:
        call.kind = pb.TOOL_KIND_CUSTOM
        call.input = text_of(item.get("input"))
    part.item.status = text_of(item.get("status"))
    part.extra_json = call_extra(item)
    return size_of(call.name) + size_of(call.arguments_json) + size_of(call.input)


def _read_reasoning(item: Json, part: pb.Part) -> int:
    thought = part.reasoning
    thought.item_id = text_of(item.get("id"))
    thought.summary.extend(texts_of(item.get("summary")))
    thought.text = "".join(texts_of(item.get("content")))
    thought.encrypted_content = text_of(item.get("encrypted_content"))
    part.item.status = text_of(item.get("status"))
    part.extra_json = json_text.write_object(reasoning_extra(item))
    return size_of(thought.text) + sum(map(size_of, thought.summary))
