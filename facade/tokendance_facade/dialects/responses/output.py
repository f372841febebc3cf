"""The pieces that an answer of the Responses API is made of, whole or streamed: items, parts, usage, the object."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import orjson

from tokendance.gateway.v1 import completion_pb2 as pb
from tokendance_facade.dialects.documents import Document, add_extra, answer_id, extra_fields
from tokendance_facade.dialects.responses.settings import told_by_upstream

RESPONSES = pb.DIALECT_OPENAI_RESPONSES

dumps = orjson.dumps

_INCOMPLETE = {pb.FINISH_REASON_LENGTH: "max_output_tokens", pb.FINISH_REASON_CONTENT_FILTER: "content_filter"}
_PREFIXES = {"message": "msg", "function_call": "fc", "custom_tool_call": "ctc", "reasoning": "rs"}

# What an upstream of this dialect says of these is its own affair, or is told by the gateway.
_OURS = frozenset(
    {"id", "object", "created_at", "completed_at", "status", "background", "error", "incomplete_details", "model",
     "output", "previous_response_id", "conversation", "service_tier", "store", "usage"}
)  # fmt: skip


def response_id(canonical: str) -> str:
    """Return the gateway's id of an answer as this dialect writes it: `cmpl_01…` is `resp_01…`."""
    return answer_id(canonical, "resp_")


def item_id(response: str, kind: str, index: int) -> str:
    """Return an id for an item of an answer whose upstream gives none: the same each time it is asked for."""
    return f"{_PREFIXES.get(kind, 'item')}_{response.removeprefix('resp_')}_{index}"


def incomplete_reason(reason: pb.FinishReason.ValueType, native: str, *, same_dialect: bool) -> str:
    """Return why an answer is incomplete, in this dialect's words, or nothing where it is complete."""
    if same_dialect and reason == pb.FINISH_REASON_OTHER:
        return native
    return _INCOMPLETE.get(reason, "")


def response_document(
    settings: Document,
    about: Document,
    *,
    status: str,
    output: Sequence[Document] = (),
    usage: Document | None = None,
    error: Document | None = None,
    incomplete: str = "",
    completed_at: int | None = None,
    service_tier: str = "",
    extra: Document | None = None,
) -> Document:
    """Return the object of an answer.

    `about` holds its id, model and time; `extra` what an upstream of this dialect says beside, which never replaces
    what is the gateway's to say.
    """
    document: Document = {
        "id": about["id"],
        "object": "response",
        "created_at": about["created_at"],
        "status": status,
        "completed_at": completed_at,
        "error": error,
        "incomplete_details": {"reason": incomplete} if incomplete else None,
        "model": about["model"],
        "output": list(output),
        "usage": usage,
        **settings,
    }
    if service_tier:
        document["service_tier"] = service_tier
    if extra:
        told = {name: value for name, value in extra.items() if name not in _OURS}
        document.update(told_by_upstream(settings, told))
    return document


def usage_document(usage: pb.Usage, account: pb.CallAccount, *, same_dialect: bool) -> Document:
    """Return usage as this dialect shows it, with what the call cost and whether that is an estimate."""
    document: Document = {
        "input_tokens": usage.input_tokens,
        "input_tokens_details": {
            "cached_tokens": usage.cached_input_tokens,
            "cache_write_tokens": usage.cache_write_tokens,
        },
        "output_tokens": usage.output_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        "total_tokens": usage.input_tokens + usage.output_tokens,
    }
    if account.HasField("cost_micros"):
        document["cost_micros"] = account.cost_micros
    if account.estimated:
        document["estimated"] = True
    if same_dialect and usage.extra_json:
        add_extra(document, usage.extra_json)
    return document


def message_item(name: str, status: str, content: list[Document], phase: str = "", extra_json: str = "") -> Document:
    """Return an item of what the model says."""
    document: Document = {"type": "message", "id": name, "status": status, "role": "assistant", "content": content}
    if phase:
        document["phase"] = phase
    # Content in `extra_json` is the same, in full.
    document.update(extra_fields(extra_json))
    return document


def call_item(name: str, status: str, call: pb.ToolCall, extra_json: str = "") -> Document:
    """Return an item of a call, in the kind in which its tool was declared."""
    custom = call.kind == pb.TOOL_KIND_CUSTOM
    document: Document = {
        "type": "custom_tool_call" if custom else "function_call",
        "id": name,
        "call_id": call.id,
        "name": call.name,
    }
    if custom:
        document["input"] = call.input
    else:
        document["arguments"] = call.arguments_json
    document["status"] = status
    if call.namespace:
        document["namespace"] = call.namespace
    add_extra(document, extra_json)
    return document


def reasoning_item(
    name: str, status: str, thought: pb.ReasoningContent, encrypted: str, extra_json: str = ""
) -> Document:
    """Return an item of reasoning. A part of `extra_json` wins over the plain texts: it is the same, in full."""
    document: Document = {"type": "reasoning", "id": name, "summary": [summary_part(text) for text in thought.summary]}
    if thought.text:
        document["content"] = [{"type": "reasoning_text", "text": thought.text}]
    if encrypted:
        document["encrypted_content"] = encrypted
    if status:
        document["status"] = status
    document.update(extra_fields(extra_json))
    return document


def summary_part(text: str) -> Document:
    """Return a part of a summary."""
    return {"type": "summary_text", "text": text}


def text_part(text: str, annotations: list[Document], logprobs: list[Document]) -> Document:
    """Return a part of what is said."""
    return {"type": "output_text", "text": text, "annotations": annotations, "logprobs": logprobs}


def image_item(name: str, image: pb.Image | pb.ImageDelta, encoded: str) -> Document:
    """Return a picture that the model made."""
    document: Document = {"type": "image_generation_call", "id": name, "status": "completed", "result": encoded}
    if image.media_type.startswith("image/"):
        document["output_format"] = image.media_type.removeprefix("image/")
    return document


def annotation(citation: pb.Citation, *, same_dialect: bool) -> Document:
    """Return a citation as an annotation: as its upstream wrote it where that was in this dialect."""
    if same_dialect and citation.native_json:
        return extra_fields(citation.native_json)
    return {
        "type": "url_citation",
        "start_index": citation.start_index,
        "end_index": citation.end_index,
        "url": citation.url,
        "title": citation.title,
    }


def logprobs_of(tokens: Iterable[pb.TokenLogprob]) -> list[Document]:
    """Return log probabilities as this dialect writes them."""
    return [{**_logprob(token), "top_logprobs": [_logprob(other) for other in token.top]} for token in tokens]


def _logprob(token: pb.TokenLogprob) -> Document:
    return {"token": token.token, "bytes": list(token.utf8), "logprob": token.logprob}


def parse(text: str) -> Document:
    """Return an object that an upstream of this dialect wrote, which its provider has read before."""
    document = orjson.loads(text)
    assert type(document) is dict
    return document
