"""A whole canonical answer as a `message`."""

from __future__ import annotations

from typing import Any

import orjson

from tokendance.gateway.v1 import completion_pb2 as pb
from tokendance_facade.dialects.documents import Document, add_extra, answer_id, extra_fields
from tokendance_facade.dialects.messages.thoughts import signature_of
from tokendance_facade.dialects.messages.usage import stop_fields, usage_document


def encode(completion: pb.Completion) -> bytes:
    """Return the body: the first choice, for the dialect has no others."""
    same = completion.dialect == pb.DIALECT_ANTHROPIC_MESSAGES
    choice = completion.choices[0] if completion.choices else pb.Choice()
    parts = choice.message.parts
    document: Document = {
        "id": answer_id(completion.id, "msg_"),
        "type": "message",
        "role": "assistant",
        "model": completion.model,
        "content": [block for part in parts if (block := _block(part, same)) is not None],
        **stop_fields(
            choice.finish_reason,
            choice.native_finish_reason,
            choice.stop_sequence,
            same_dialect=same,
            refused=any(part.HasField("refusal") for part in parts),
        ),
        "usage": usage_document(completion.usage, completion.account, same_dialect=same),
    }
    if same and completion.extra_json:
        add_extra(document, completion.extra_json)
    return orjson.dumps(document)


def citation_document(citation: pb.Citation) -> Document | None:
    """Return a citation as this dialect wrote it; None where it comes from another one."""
    return extra_fields(citation.native_json) or None


def _block(part: pb.Part, same: bool) -> Document | None:
    kind = part.WhichOneof("content")
    block: Document | None = None
    if kind == "text":
        block = {"type": "text", "text": part.text.text}
        cited = [one for citation in part.text.citations if (one := citation_document(citation))] if same else []
        if cited:
            block["citations"] = cited
    elif kind == "tool_call":
        block = {
            "type": "tool_use",
            "id": part.tool_call.id,
            "name": part.tool_call.name,
            "input": _input(part.tool_call),
        }
    elif kind == "reasoning":
        block = _thinking(part.reasoning)
    elif kind == "refusal":
        block = {"type": "text", "text": part.refusal.text}
    elif kind == "native" and same:
        block = extra_fields(part.native.json)
    if block is not None and same and part.extra_json:
        add_extra(block, part.extra_json)
    return block


def _thinking(thought: pb.ReasoningContent) -> Document:
    if thought.redacted:
        return {"type": "redacted_thinking", "data": thought.encrypted_content}
    text = thought.text or "\n\n".join(thought.summary)
    return {"type": "thinking", "thinking": text, "signature": signature_of(thought)}


def _input(call: pb.ToolCall) -> Any:
    """Return the input of a call, an object whatever the model wrote."""
    if call.kind == pb.TOOL_KIND_CUSTOM:
        return {"input": call.input}
    try:
        given = orjson.loads(call.arguments_json or "{}")
    except orjson.JSONDecodeError:
        given = None
    return given if type(given) is dict else {"raw_arguments": call.arguments_json}
