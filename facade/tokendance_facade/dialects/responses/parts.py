"""Content parts of Responses items into canonical parts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from tokendance.gateway.v1 import completion_pb2 as pb
from tokendance_facade.dialects import checks
from tokendance_facade.dialects.documents import Document, dump_extra, dump_text, unknown_fields
from tokendance_facade.dialects.media import decode_base64, decode_data_url, is_data_url

MAX_PARTS = 10_000

_DETAILS = frozenset({"auto", "low", "high", "original"})
_MARKS = frozenset({"type", "prompt_cache_breakpoint"})


class PartList(Protocol):
    """The repeated field that parts are added to."""

    def add(self) -> pb.Part:
        """Append an empty part and return it."""


def add_content(parts: PartList, content: Any, path: str) -> None:
    """Append a text, or an array of content parts. What the dialect does not define is kept as it is."""
    if type(content) is str:
        parts.add().text.text = content
        return
    for index, item in enumerate(checks.array(content, path, high=MAX_PARTS)):
        where = f"{path}[{index}]"
        kind = checks.obj(item, where).get("type")
        if kind is None:
            raise checks.missing(f"{where}.type")
        checks.text(kind, f"{where}.type", low=1, high=64)
        part = parts.add()
        decode = _KINDS.get(kind)
        if decode is None:
            part.native.dialect = pb.DIALECT_OPENAI_RESPONSES
            part.native.type = kind
            part.native.json = dump_text(item, where)
            continue
        decode(part, item, where)
        _breakpoint(part, item, where)


def _text(part: pb.Part, item: Document, path: str) -> None:
    part.text.text = checks.text(item.get("text"), f"{path}.text")
    extra = unknown_fields(item, _TEXT, path) or {}
    # Whoever sends an answer back sends its empty lists along; they say nothing.
    _keep(part, {name: value for name, value in extra.items() if name not in _SAID or value}, path)


def _refusal(part: pb.Part, item: Document, path: str) -> None:
    part.refusal.text = checks.text(item.get("refusal"), f"{path}.refusal")
    _keep(part, unknown_fields(item, _REFUSAL, path), path)


def _image(part: pb.Part, item: Document, path: str) -> None:
    url, file_id = item.get("image_url"), item.get("file_id")
    if (url is None) == (file_id is None):
        raise checks.invalid(path, f"`{path}` must have either `image_url` or `file_id`.")
    if file_id is not None:
        part.image.file_id = checks.text(file_id, f"{path}.file_id", low=1, high=512)
    else:
        where = f"{path}.image_url"
        address = checks.text(url, where, low=1)
        if is_data_url(address):
            part.image.data, part.image.media_type = decode_data_url(address, where)
        elif address[:8].lower().startswith(("http://", "https://")):
            part.image.url = address
        else:
            raise checks.invalid(where, f"`{where}` must be an http(s) address or a data URL.")
    if item.get("detail") is not None:
        part.image.detail = checks.one_of(item["detail"], f"{path}.detail", _DETAILS)
    _keep(part, unknown_fields(item, _IMAGE, path), path)


def _file(part: pb.Part, item: Document, path: str) -> None:
    given = [name for name in ("file_id", "file_data", "file_url") if item.get(name) is not None]
    if len(given) != 1:
        raise checks.invalid(path, f"`{path}` must have one of `file_data`, `file_id` and `file_url`.")
    where = f"{path}.{given[0]}"
    value = checks.text(item[given[0]], where, low=1)
    if given == ["file_id"]:
        part.file.file_id = checks.text(value, where, high=512)
    elif given == ["file_url"]:
        part.file.url = value
    elif is_data_url(value):
        part.file.data, part.file.media_type = decode_data_url(value, where)
    else:
        part.file.data = decode_base64(value, where)
    if item.get("filename") is not None:
        part.file.filename = checks.text(item["filename"], f"{path}.filename", high=1024)
    _keep(part, unknown_fields(item, _FILE, path), path)


def _audio(part: pb.Part, item: Document, path: str) -> None:
    where = f"{path}.input_audio"
    if item.get("input_audio") is None:
        raise checks.missing(where)
    inner = checks.obj(item["input_audio"], where)
    part.audio.data = decode_base64(checks.required_text(inner, "data", where), f"{where}.data")
    part.audio.format = checks.required_text(inner, "format", where, high=32)
    extra = unknown_fields(item, _AUDIO, path)
    nested = unknown_fields(inner, _SOUND, where)
    _keep(part, {**(extra or {}), "input_audio": nested} if nested else extra, path)


def _breakpoint(part: pb.Part, item: Document, path: str) -> None:
    mark = item.get("prompt_cache_breakpoint")
    if mark is not None:
        where = f"{path}.prompt_cache_breakpoint"
        ttl = checks.obj(mark, where).get("ttl")
        part.cache_breakpoint.ttl = checks.text(ttl, f"{where}.ttl", high=16) if ttl is not None else ""


def _keep(part: pb.Part, extra: Document | None, path: str) -> None:
    if extra:
        part.extra_json = dump_extra(extra, path)


_SAID = frozenset({"annotations", "logprobs"})
_TEXT = _MARKS | {"text"}
_REFUSAL = _MARKS | {"refusal"}
_IMAGE = _MARKS | {"image_url", "file_id", "detail"}
_FILE = _MARKS | {"file_data", "file_id", "file_url", "filename"}
_AUDIO = _MARKS | {"input_audio"}
_SOUND = frozenset({"data", "format"})

_KINDS: dict[str, Callable[[pb.Part, Document, str], None]] = {
    "input_text": _text,
    "output_text": _text,
    "text": _text,
    "refusal": _refusal,
    "input_image": _image,
    "input_file": _file,
    "input_audio": _audio,
}
