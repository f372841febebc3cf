"""The answer that most are, one or more plain texts, read without the detour over untyped objects. Pure.

Whatever else an answer holds fails to decode here, and answer.py reads it in full: this file is only faster.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from tokendance.gateway.v1 import completion_pb2 as pb
from tokendance_server.providers import json_text
from tokendance_server.providers.estimates import size_of
from tokendance_server.providers.openai.usage import read_usage

_REASONS = {"stop": pb.FINISH_REASON_STOP, "length": pb.FINISH_REASON_LENGTH}


class _Message(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    content: str
    role: str | None = None
    refusal: None = None
    tool_calls: list[None] | None = None
    function_call: None = None
    annotations: list[None] | None = None
    audio: None = None
    reasoning_content: None = None
    reasoning: None = None


class _Choice(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    message: _Message
    finish_reason: str
    index: Annotated[int, msgspec.Meta(ge=0, lt=2**31)]
    logprobs: None = None
    usage: None = None
    stop_reason: None = None
    native_finish_reason: None = None


class _Answer(msgspec.Struct, gc=False):
    choices: list[_Choice]
    usage: dict[str, Any]
    id: str | None = None
    object: str | None = None
    created: Annotated[int, msgspec.Meta(ge=0, lt=2**40)] | None = None
    model: str | None = None
    type: None = None
    service_tier: str | None = None
    system_fingerprint: str | None = None
    error: None = None
    x_groq: None = None
    moderation: None = None
    metadata: None = None
    citations: None = None


_decode = msgspec.json.Decoder(_Answer).decode


def read_plain(body: bytes, request: pb.CompletionRequest) -> pb.Completion | None:
    """Return the answer to `request`, or None where it is not plain."""
    try:
        answer = _decode(body)
    except json_text.UNREADABLE:
        return None
    if answer.object == "error" or not answer.choices or not answer.usage:
        return None
    completion = pb.Completion(
        id=answer.id or "",
        model=answer.model or "",
        created=answer.created or 0,
        service_tier=answer.service_tier or "",
        system_fingerprint=answer.system_fingerprint or "",
        dialect=pb.DIALECT_OPENAI_CHAT,
    )
    size = 0
    for told in answer.choices:
        reason = _REASONS.get(told.finish_reason)
        text = told.message.content
        if reason is None or not text:
            return None
        choice = completion.choices.add(index=told.index, finish_reason=reason, native_finish_reason=told.finish_reason)
        message = choice.message
        message.role = pb.ROLE_ASSISTANT
        message.parts.add().text.text = text
        size += size_of(text)
    completion.usage.CopyFrom(read_usage(answer.usage, request, size))
    return completion
