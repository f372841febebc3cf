"""Content blocks of Messages into canonical parts; a block of a type that only this dialect knows is kept whole."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from tokendance.gateway.v1 import completion_pb2 as pb
from tokendance_facade.dialects import checks
from tokendance_facade.dialects.documents import Document, dump_extra, dump_text, unknown_fields
from tokendance_facade.dialects.media import decode_base64
from tokendance_facade.dialects.messages.thoughts import read_signature

MAX_BLOCKS = 10_000
MAX_CITATIONS = 1000

_MARKS = frozenset({"type", "cache_control"})
_EPHEMERAL = frozenset({"type", "ttl"})
_TEXT = _MARKS | {"text", "citations"}
_IMAGE = _MARKS | {"source"}
_DOCUMENT = _MARKS | {"source", "title"}
_TOOL_USE = _MARKS | {"id", "name", "input"}
_TOOL_RESULT = _MARKS | {"tool_use_id", "content", "is_error"}
_THINKING = frozenset({"type", "thinking", "signature"})
_REDACTED = frozenset({"type", "data"})
_MAX_TITLE = 1024
_PLAIN = "text/plain"


class PartList(Protocol):
    """The repeated field that parts are added to."""

    def add(self) -> pb.Part:
        """Append an empty part and return it."""


class Marked(Protocol):
    """What may carry a mark for the cache: a part, or a tool."""

    @property
    def cache_breakpoint(self) -> pb.CacheBreakpoint:
        """The mark."""


def add_content(parts: PartList, content: Any, path: str, *, inside_result: bool = False) -> None:
    """Append a content: a text, or blocks. Inside a result only text, pictures and documents have typed places."""
    if type(content) is str:
        parts.add().text.text = content
        return
    kinds = _INSIDE_RESULT if inside_result else _KINDS
    for index, block in enumerate(checks.array(content, path, high=MAX_BLOCKS)):
        where = f"{path}[{index}]"
        kind = checks.obj(block, where).get("type")
        if kind is None:
            raise checks.missing(f"{where}.type")
        part = parts.add()
        decode = kinds.get(kind) if type(kind) is str else None
        if decode is None:
            _native(part, checks.text(kind, f"{where}.type", low=1, high=128), block, where)
            continue
        extra = decode(part, block, where)
        extra.update(read_mark(part, block, where))
        if extra:
            part.extra_json = dump_extra(extra, where)


def read_mark(target: Marked, item: Document, path: str) -> Document:
    """Read `cache_control` into the target; return what of it has no typed place, under its name."""
    mark = item.get("cache_control")
    if mark is None:
        return {}
    where = f"{path}.cache_control"
    if checks.obj(mark, where).get("type") != "ephemeral":
        return {"cache_control": mark}
    ttl = mark.get("ttl")
    target.cache_breakpoint.ttl = checks.text(ttl, f"{where}.ttl", high=16) if ttl is not None else ""
    rest = unknown_fields(mark, _EPHEMERAL, where)
    return {"cache_control": rest} if rest else {}


def _native(part: pb.Part, kind: str, block: Document, path: str) -> None:
    part.native.dialect = pb.DIALECT_ANTHROPIC_MESSAGES
    part.native.type = kind
    part.native.json = dump_text(block, path)


def _text(part: pb.Part, block: Document, path: str) -> Document:
    part.text.text = checks.text(block.get("text"), f"{path}.text")
    citations = block.get("citations")
    if citations is not None:
        where = f"{path}.citations"
        for index, citation in enumerate(checks.array(citations, where, high=MAX_CITATIONS)):
            _citation(part.text.citations.add(), checks.obj(citation, f"{where}[{index}]"), f"{where}[{index}]")
    return unknown_fields(block, _TEXT, path) or {}


def _citation(citation: pb.Citation, item: Document, path: str) -> None:
    for name in ("url", "title", "cited_text"):
        if type(item.get(name)) is str:
            setattr(citation, name, item[name])
    citation.native_json = dump_text(item, path)


def _image(part: pb.Part, block: Document, path: str) -> Document:
    source, where = _source(block, path)
    kind = source.get("type")
    if kind == "base64":
        part.image.data = decode_base64(checks.required_text(source, "data", where), f"{where}.data")
        part.image.media_type = checks.required_text(source, "media_type", where, high=128)
        known = frozenset({"type", "data", "media_type"})
    elif kind == "url":
        part.image.url = _address(source, where)
        known = frozenset({"type", "url"})
    elif kind == "file":
        part.image.file_id = checks.required_text(source, "file_id", where, high=512)
        known = frozenset({"type", "file_id"})
    else:
        _native(part, "image", block, path)
        return {}
    return _with_source(block, _IMAGE, source, known, path)


def _document(part: pb.Part, block: Document, path: str) -> Document:
    source, where = _source(block, path)
    kind = source.get("type")
    if kind == "base64":
        part.file.data = decode_base64(checks.required_text(source, "data", where), f"{where}.data")
        part.file.media_type = checks.required_text(source, "media_type", where, high=128)
        known = frozenset({"type", "data", "media_type"})
    elif kind == "text" and source.get("media_type", _PLAIN) == _PLAIN:
        part.file.text = checks.text(source.get("data"), f"{where}.data")
        part.file.media_type = _PLAIN
        known = frozenset({"type", "data", "media_type"})
    elif kind == "url":
        part.file.url = _address(source, where)
        known = frozenset({"type", "url"})
    elif kind == "file":
        part.file.file_id = checks.required_text(source, "file_id", where, high=512)
        known = frozenset({"type", "file_id"})
    else:
        _native(part, "document", block, path)
        return {}
    if block.get("title") is not None:
        part.file.filename = checks.text(block["title"], f"{path}.title", high=_MAX_TITLE)
    return _with_source(block, _DOCUMENT, source, known, path)


def _source(block: Document, path: str) -> tuple[Document, str]:
    where = f"{path}.source"
    if block.get("source") is None:
        raise checks.missing(where)
    return checks.obj(block["source"], where), where


def _address(source: Document, path: str) -> str:
    url = checks.required_text(source, "url", path)
    if not url[:8].lower().startswith(("http://", "https://")):
        raise checks.invalid(f"{path}.url", f"`{path}.url` must be an http(s) address.")
    return url


def _with_source(
    block: Document, known: frozenset[str], source: Document, source_known: frozenset[str], path: str
) -> Document:
    extra = unknown_fields(block, known, path) or {}
    nested = unknown_fields(source, source_known, f"{path}.source")
    return {**extra, "source": nested} if nested else extra


def _tool_use(part: pb.Part, block: Document, path: str) -> Document:
    call = part.tool_call
    call.kind = pb.TOOL_KIND_FUNCTION
    call.id = checks.required_text(block, "id", path, high=512)
    call.name = checks.required_text(block, "name", path, high=256)
    call.arguments_json = dump_text(checks.obj(block.get("input"), f"{path}.input"), f"{path}.input")
    return unknown_fields(block, _TOOL_USE, path) or {}


def _tool_result(part: pb.Part, block: Document, path: str) -> Document:
    result = part.tool_result
    result.call_id = checks.required_text(block, "tool_use_id", path, high=512)
    if block.get("content") is not None:
        add_content(result.parts, block["content"], f"{path}.content", inside_result=True)
    if block.get("is_error") is not None:
        result.is_error = checks.boolean(block["is_error"], f"{path}.is_error")
    return unknown_fields(block, _TOOL_RESULT, path) or {}


def _thinking(part: pb.Part, block: Document, path: str) -> Document:
    part.reasoning.text = checks.text(block.get("thinking"), f"{path}.thinking")
    if block.get("signature") is not None:
        read_signature(part.reasoning, checks.text(block["signature"], f"{path}.signature"))
    return unknown_fields(block, _THINKING, path) or {}


def _redacted(part: pb.Part, block: Document, path: str) -> Document:
    part.reasoning.encrypted_content = checks.required_text(block, "data", path)
    part.reasoning.redacted = True
    return unknown_fields(block, _REDACTED, path) or {}


_Decode = Callable[[pb.Part, Document, str], Document]

_INSIDE_RESULT: Mapping[str, _Decode] = {"text": _text, "image": _image, "document": _document}
_KINDS: Mapping[str, _Decode] = {
    **_INSIDE_RESULT,
    "tool_use": _tool_use,
    "tool_result": _tool_result,
    "thinking": _thinking,
    "redacted_thinking": _redacted,
}
