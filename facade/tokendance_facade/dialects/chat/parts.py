"""Content parts and tool calls of Chat Completions messages into canonical parts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from tokendance.gateway.v1 import completion_pb2 as pb
from tokendance_facade.dialects import checks
from tokendance_facade.dialects.documents import Document, dump_extra, dump_text, unknown_fields
from tokendance_facade.dialects.media import decode_base64, decode_data_url, is_data_url

MAX_PARTS = 10_000

_DETAILS = frozenset({"auto", "low", "high", "original"})
_TEXT_TYPES = frozenset({"text"})
_CALL_TYPES = frozenset({"function", "custom"})


class PartList(Protocol):
    """The repeated field that parts are added to."""

    def add(self) -> pb.Part:
        """Append an empty part and return it."""


def add_content(parts: PartList, content: Any, path: str, *, media: bool, refusal: bool = False) -> None:
    """Append an array of content parts. `media` allows more than text; `refusal` allows refusals."""
    for index, item in enumerate(checks.array(content, path, low=1, high=MAX_PARTS)):
        where = f"{path}[{index}]"
        kind = checks.obj(item, where).get("type")
        if kind is None:
            raise checks.missing(f"{where}.type")
        part = parts.add()
        if kind == "text":
            _text(part, item, where)
        elif kind == "refusal" and refusal:
            part.refusal.text = checks.text(item.get("refusal"), f"{where}.refusal")
            extra = unknown_fields(item, _REFUSAL, where)
            if extra is not None:
                part.extra_json = dump_extra(extra, where)
        elif not media:
            checks.one_of(kind, f"{where}.type", _TEXT_TYPES | {"refusal"} if refusal else _TEXT_TYPES)
        else:
            _media(part, kind, item, where)


def decode_tool_call(part: pb.Part, value: Any, path: str) -> None:
    """Read one element of an assistant's `tool_calls`."""
    item = checks.obj(value, path)
    call = part.tool_call
    call.id = checks.required_text(item, "id", path, high=512)
    kind = item.get("type") or "function"
    checks.one_of(kind, f"{path}.type", _CALL_TYPES)
    if item.get(kind) is None:
        raise checks.missing(f"{path}.{kind}")
    inner = checks.obj(item[kind], f"{path}.{kind}")
    call.name = checks.required_text(inner, "name", f"{path}.{kind}", high=256)
    if kind == "function":
        call.kind = pb.TOOL_KIND_FUNCTION
        call.arguments_json = checks.text(inner.get("arguments"), f"{path}.function.arguments")
        _keep_unknown(part, item, "function", _FUNCTION_CALL, path)
    else:
        call.kind = pb.TOOL_KIND_CUSTOM
        call.input = checks.text(inner.get("input"), f"{path}.custom.input")
        _keep_unknown(part, item, "custom", _CUSTOM_CALL, path)


# `index` comes along where a caller sends back what it gathered from a stream.
_FUNCTION_CALL = (frozenset({"id", "type", "function", "index"}), frozenset({"name", "arguments"}))
_CUSTOM_CALL = (frozenset({"id", "type", "custom", "index"}), frozenset({"name", "input"}))


def _text(part: pb.Part, item: Document, path: str) -> None:
    part.text.text = checks.text(item.get("text"), f"{path}.text")
    if len(item) > 2:
        _breakpoint(part, item, path)
        extra = unknown_fields(item, _TEXT, path)
        if extra is not None:
            part.extra_json = dump_extra(extra, path)


def _media(part: pb.Part, kind: Any, item: Document, path: str) -> None:
    decode = _MEDIA.get(kind) if type(kind) is str else None
    if decode is not None:
        decode(part, item, path)
        _breakpoint(part, item, path)
        return
    # A kind of content that some servers add to the form, such as video: kept whole for an upstream that knows it.
    part.native.type = checks.text(kind, f"{path}.type", low=1, high=64)
    part.native.dialect = pb.DIALECT_OPENAI_CHAT
    part.native.json = dump_text(item, path)


def _image(part: pb.Part, item: Document, path: str) -> None:
    where = f"{path}.image_url"
    if item.get("image_url") is None:
        raise checks.missing(where)
    inner = checks.obj(item["image_url"], where)
    url = checks.required_text(inner, "url", where)
    if is_data_url(url):
        part.image.data, part.image.media_type = decode_data_url(url, f"{where}.url")
    elif url[:8].lower().startswith(("http://", "https://")):
        part.image.url = url
    else:
        raise checks.invalid(f"{where}.url", f"`{where}.url` must be an http(s) address or a data URL.")
    if inner.get("detail") is not None:
        part.image.detail = checks.one_of(inner["detail"], f"{where}.detail", _DETAILS)
    _keep_unknown(part, item, "image_url", _IMAGE, path)


def _audio(part: pb.Part, item: Document, path: str) -> None:
    where = f"{path}.input_audio"
    if item.get("input_audio") is None:
        raise checks.missing(where)
    inner = checks.obj(item["input_audio"], where)
    part.audio.data = decode_base64(checks.required_text(inner, "data", where), f"{where}.data")
    part.audio.format = checks.required_text(inner, "format", where, high=32)
    _keep_unknown(part, item, "input_audio", _AUDIO, path)


def _file(part: pb.Part, item: Document, path: str) -> None:
    where = f"{path}.file"
    if item.get("file") is None:
        raise checks.missing(where)
    inner = checks.obj(item["file"], where)
    file_id, data = inner.get("file_id"), inner.get("file_data")
    if (file_id is None) == (data is None):
        raise checks.invalid(where, f"`{where}` must have either `file_data` or `file_id`.")
    if file_id is not None:
        part.file.file_id = checks.text(file_id, f"{where}.file_id", low=1, high=512)
    else:
        content = checks.text(data, f"{where}.file_data", low=1)
        if is_data_url(content):
            part.file.data, part.file.media_type = decode_data_url(content, f"{where}.file_data")
        else:
            part.file.data = decode_base64(content, f"{where}.file_data")
    if inner.get("filename") is not None:
        part.file.filename = checks.text(inner["filename"], f"{where}.filename", high=1024)
    _keep_unknown(part, item, "file", _FILE, path)


def _breakpoint(part: pb.Part, item: Document, path: str) -> None:
    mark = item.get("prompt_cache_breakpoint")
    if mark is None:
        return
    where = f"{path}.prompt_cache_breakpoint"
    ttl = checks.obj(mark, where).get("ttl")
    part.cache_breakpoint.ttl = checks.text(ttl, f"{where}.ttl", high=16) if ttl is not None else ""


def _keep_unknown(
    part: pb.Part, item: Document, inner: str, known: tuple[frozenset[str], frozenset[str]], path: str
) -> None:
    """Keep unknown fields of a part, and of the object inside it under that object's name; `known` of both."""
    extra = unknown_fields(item, known[0], path)
    nested = unknown_fields(item[inner], known[1], f"{path}.{inner}")
    if nested is not None:
        extra = {**(extra or {}), inner: nested}
    if extra is not None:
        part.extra_json = dump_extra(extra, path)


_MARKS = frozenset({"type", "prompt_cache_breakpoint"})
_TEXT = _MARKS | {"text"}
_REFUSAL = frozenset({"type", "refusal"})
_IMAGE = (_MARKS | {"image_url"}, frozenset({"url", "detail"}))
_AUDIO = (_MARKS | {"input_audio"}, frozenset({"data", "format"}))
_FILE = (_MARKS | {"file"}, frozenset({"file_data", "file_id", "filename"}))

_MEDIA: dict[str, Callable[[pb.Part, Document, str], None]] = {
    "image_url": _image,
    "input_audio": _audio,
    "file": _file,
}
