"""A whole canonical answer as a `chat.completion` object."""

from __future__ import annotations

from collections.abc import Iterable

import orjson

from tokendance.gateway.v1 import completion_pb2 as pb
from tokendance_facade.dialects.documents import Document, add_extra, answer_id
from tokendance_facade.dialects.media import data_url, encode_base64
from tokendance_facade.dialects.usage import FINISH_REASONS, SHOWS_NATIVE, usage_document


def encode(completion: pb.Completion, *, function_call: bool = False) -> bytes:
    """Return the body. `function_call` answers calls in the deprecated form."""
    same_dialect = completion.dialect == pb.DIALECT_OPENAI_CHAT
    document: Document = {
        "id": answer_id(completion.id, "chatcmpl-"),
        "object": "chat.completion",
        "created": completion.created,
        "model": completion.model,
        "choices": [_choice(choice, same_dialect, function_call) for choice in completion.choices],
    }
    if completion.HasField("usage"):
        document["usage"] = usage_document(completion.usage, completion.account, same_dialect=same_dialect)
    if completion.service_tier:
        document["service_tier"] = completion.service_tier
    if completion.system_fingerprint:
        document["system_fingerprint"] = completion.system_fingerprint
    if same_dialect and completion.extra_json:
        add_extra(document, completion.extra_json)
    return orjson.dumps(document)


def finish_word(reason: pb.FinishReason.ValueType, *, function_call: bool) -> str:
    """Return the finish reason in this dialect's words."""
    if function_call and reason == pb.FINISH_REASON_TOOL_CALLS:
        return "function_call"
    return FINISH_REASONS.get(reason, "stop")


def logprobs_document(content: Iterable[pb.TokenLogprob], refusal: Iterable[pb.TokenLogprob]) -> Document | None:
    """Return the `logprobs` of a choice, or None where there are none."""
    document: Document = {
        "content": [_logprob(token) for token in content] or None,
        "refusal": [_logprob(token) for token in refusal] or None,
    }
    return document if document["content"] or document["refusal"] else None


def annotation(citation: pb.Citation) -> Document:
    """Return a citation as an annotation."""
    inner: Document = {"url": citation.url, "title": citation.title}
    if citation.HasField("start_index"):
        inner["start_index"] = citation.start_index
    if citation.HasField("end_index"):
        inner["end_index"] = citation.end_index
    return {"type": "url_citation", "url_citation": inner}


def image_document(data: bytes, media_type: str, index: int) -> Document:
    """Return a picture made by the model in the form that several servers add to the dialect."""
    return {"type": "image_url", "index": index, "image_url": {"url": data_url(data, media_type)}}


def _choice(choice: pb.Choice, same_dialect: bool, function_call: bool) -> Document:
    message = _message(choice.message, function_call)
    if same_dialect and choice.message.extra_json:
        add_extra(message, choice.message.extra_json)
    document: Document = {
        "index": choice.index,
        "message": message,
        "logprobs": logprobs_document(choice.logprobs, choice.refusal_logprobs)
        if choice.logprobs or choice.refusal_logprobs
        else None,
        "finish_reason": finish_word(choice.finish_reason, function_call=function_call),
    }
    if choice.finish_reason in SHOWS_NATIVE and choice.native_finish_reason:
        document["native_finish_reason"] = choice.native_finish_reason
    if same_dialect and choice.extra_json:
        add_extra(document, choice.extra_json)
    return document


def _message(message: pb.Message, function_call: bool) -> Document:
    document: Document = {"role": "assistant", "content": None, "refusal": None}
    calls: list[Document] = []
    for part in message.parts:
        kind = part.WhichOneof("content")
        if kind == "text":
            document["content"] = (document["content"] or "") + part.text.text
            if part.text.citations:
                found = document.setdefault("annotations", [])
                found.extend(annotation(citation) for citation in part.text.citations)
        elif kind == "tool_call":
            calls.append(_tool_call(part))
        elif kind == "reasoning":
            text = part.reasoning.text or "".join(part.reasoning.summary)
            if text:
                document["reasoning_content"] = document.get("reasoning_content", "") + text
        elif kind == "refusal":
            document["refusal"] = (document["refusal"] or "") + part.refusal.text
        elif kind == "audio":
            document["audio"] = _audio(part)
        elif kind == "image" and part.image.data:
            images = document.setdefault("images", [])
            images.append(image_document(part.image.data, part.image.media_type, len(images)))
    if calls and function_call and "function" in calls[0]:
        document["function_call"] = calls[0]["function"]
    elif calls:
        document["tool_calls"] = calls
    return document


def _tool_call(part: pb.Part) -> Document:
    call = part.tool_call
    if call.kind == pb.TOOL_KIND_CUSTOM:
        document: Document = {"id": call.id, "type": "custom", "custom": {"name": call.name, "input": call.input}}
    else:
        document = {
            "id": call.id,
            "type": "function",
            "function": {"name": call.name, "arguments": call.arguments_json},
        }
    if call.signature:
        document["extra_content"] = signature_document(call.signature)
    if part.extra_json:
        add_extra(document, part.extra_json)
    return document


def signature_document(signature: bytes) -> Document:
    """Return what must come back with a call, in the one form in which clients of this dialect bring it back."""
    return {"google": {"thought_signature": encode_base64(signature)}}


def _audio(part: pb.Part) -> Document:
    audio = part.audio
    document: Document = {
        "data": encode_base64(audio.data),
        "expires_at": audio.expires_at,
        "transcript": audio.transcript,
    }
    if audio.HasField("id"):
        document["id"] = audio.id
    # Where the bytes are there, the id stands beside them.
    add_extra(document, part.extra_json)
    document.setdefault("id", "")
    return document


def _logprob(token: pb.TokenLogprob) -> Document:
    document = _one_logprob(token)
    document["top_logprobs"] = [_one_logprob(alternative) for alternative in token.top]
    return document


def _one_logprob(token: pb.TokenLogprob) -> Document:
    return {"token": token.token, "bytes": list(token.utf8) or None, "logprob": token.logprob}
