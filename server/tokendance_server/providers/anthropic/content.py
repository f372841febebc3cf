"""Canonical parts as content blocks of the Messages API. Pure; what has no place there is told by gaps.py."""

from __future__ import annotations

import base64
import re
import zlib
from collections.abc import Iterable
from typing import Any

from tokendance.gateway.v1 import completion_pb2 as pb
from tokendance_server.providers import json_text

Json = dict[str, Any]

_TOOL_ID = re.compile(r"[A-Za-z0-9_-]+")
_NOT_IN_TOOL_ID = re.compile(r"[^A-Za-z0-9_-]")
_TTLS = frozenset({"5m", "1h"})
CUSTOM_INPUT = "input"
"""The one parameter of the function that stands for a custom tool."""


def blocks_of(parts: Iterable[pb.Part], path: str, *, own: bool) -> list[Json]:
    """Return the blocks of parts, in order; what cannot be sent is left out."""
    blocks = []
    for part in parts:
        block = _block(part, path, own)
        if block is None:
            continue
        if part.HasField("cache_breakpoint"):
            block["cache_control"] = cache_control(part.cache_breakpoint, own=own)
        if own and part.extra_json:
            json_text.add_missing(block, json_text.caller_extra(part.extra_json, path))
        blocks.append(block)
    return blocks


def content_of(blocks: list[Json]) -> str | list[Json]:
    """Return blocks as the content of a turn: one plain text as a text."""
    if len(blocks) == 1 and blocks[0].keys() == {"type", "text"}:
        text: str = blocks[0]["text"]
        return text
    return blocks


def cache_control(mark: pb.CacheBreakpoint, *, own: bool) -> Json:
    """Return the mark that a prompt may be cached up to a place."""
    written = {"type": "ephemeral"}
    if mark.ttl and (own or mark.ttl in _TTLS):
        written["ttl"] = mark.ttl
    return written


def tool_id(call_id: str, *, own: bool) -> str:
    """Return the id of a call in the characters that this API takes: equal ids stay equal, others differ."""
    if own or _TOOL_ID.fullmatch(call_id):
        return call_id
    return f"{_NOT_IN_TOOL_ID.sub('_', call_id)[:48]}_{zlib.crc32(call_id.encode()):08x}"


def goes_back(reasoning: pb.ReasoningContent) -> bool:
    """Tell whether reasoning of an earlier turn can be sent back: only what such an upstream has signed or sealed.

    What other families sign has a mark before it, which ends with a full stop; no signature of this one holds any.
    """
    proof = reasoning.encrypted_content if reasoning.redacted else reasoning.signature
    return bool(proof) and "." not in proof


def _block(part: pb.Part, path: str, own: bool) -> Json | None:
    kind = part.WhichOneof("content")
    if kind == "text":
        return _text(part.text, own)
    if kind == "image":
        return {"type": "image", "source": _image_source(part.image)}
    if kind == "file":
        return _document(part.file)
    if kind == "tool_call":
        return _tool_use(part.tool_call, path, own)
    if kind == "tool_result":
        return _tool_result(part.tool_result, path, own)
    if kind == "reasoning":
        return _thinking(part.reasoning)
    if kind == "refusal":
        return {"type": "text", "text": part.refusal.text} if part.refusal.text else None
    if kind == "native" and own:
        return json_text.caller_object(part.native.json, path)
    return None


def _text(text: pb.Text, own: bool) -> Json | None:
    if not text.text and not own:
        # Refused upstream, and says nothing.
        return None
    block: Json = {"type": "text", "text": text.text}
    if own:
        native = [json_text.read(citation.native_json) for citation in text.citations if citation.native_json]
        if native:
            block["citations"] = native
    return block


def _image_source(image: pb.Image) -> Json:
    source = image.WhichOneof("source")
    if source == "url":
        return {"type": "url", "url": image.url}
    if source == "file_id":
        return {"type": "file", "file_id": image.file_id}
    return _base64(image.data, image.media_type or "image/png")


def _document(file: pb.File) -> Json:
    source = file.WhichOneof("source")
    if source == "url":
        written: Json = {"type": "url", "url": file.url}
    elif source == "file_id":
        written = {"type": "file", "file_id": file.file_id}
    elif source == "text":
        written = {"type": "text", "media_type": "text/plain", "data": file.text}
    elif file.media_type.startswith("text/"):
        written = {"type": "text", "media_type": "text/plain", "data": file.data.decode("utf-8", "replace")}
    else:
        written = _base64(file.data, file.media_type or "application/pdf")
    block: Json = {"type": "document", "source": written}
    if file.filename:
        block["title"] = file.filename
    return block


def _base64(data: bytes, media_type: str) -> Json:
    return {"type": "base64", "media_type": media_type, "data": base64.b64encode(data).decode()}


def _tool_use(call: pb.ToolCall, path: str, own: bool) -> Json:
    if call.kind == pb.TOOL_KIND_CUSTOM:
        given: Json = {CUSTOM_INPUT: call.input}
    else:
        given = json_text.caller_object(call.arguments_json or "{}", path)
    return {"type": "tool_use", "id": tool_id(call.id, own=own), "name": call.name, "input": given}


def _tool_result(result: pb.ToolResult, path: str, own: bool) -> Json:
    block: Json = {"type": "tool_result", "tool_use_id": tool_id(result.call_id, own=own)}
    content = blocks_of(result.parts, path, own=own)
    if content or (own and result.parts):
        block["content"] = content_of(content)
    if result.is_error:
        block["is_error"] = True
    return block


def _thinking(reasoning: pb.ReasoningContent) -> Json | None:
    if not goes_back(reasoning):
        return None
    if reasoning.redacted:
        return {"type": "redacted_thinking", "data": reasoning.encrypted_content}
    return {"type": "thinking", "thinking": reasoning.text, "signature": reasoning.signature}
