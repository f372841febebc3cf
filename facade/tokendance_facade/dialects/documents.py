"""JSON in and out: strict reading of a request body, and the text of documents whose shape is not ours."""

from __future__ import annotations

from typing import Any, cast

import orjson

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import errors_pb2

Document = dict[str, Any]

MAX_UNKNOWN_FIELDS = 256
"""Unknown fields of one object: far above any dialect, and few enough that naming each costs nothing."""
MAX_REQUEST_EXTRA_BYTES = 1024 * 1024
"""Unknown fields of a request as text; a predicted answer may be among them."""
MAX_EXTRA_BYTES = 64 * 1024
"""Unknown fields of one message, part or tool as text; the rules of the schema say the same."""
_MAX_PARAM = 64


def read_object(body: bytes) -> Document:
    """Parse a request body, which must be one JSON object in UTF-8.

    Of repeated names the last counts; whoever sends the request on writes it anew, so what is checked is what is
    sent. Raises invalid_json.
    """
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as exc:
        raise _invalid_json(f"The body is not valid JSON: {exc.msg} (line {exc.lineno}, column {exc.colno}).") from None
    if type(document) is not dict:
        raise _invalid_json("The body must be one JSON object.")
    return cast("Document", document)


def dump_text(value: object, path: str) -> str:
    """Return a parsed value as JSON text. Raises invalid_json where it is nested too deep to be written again."""
    try:
        return orjson.dumps(value).decode()
    except TypeError:
        raise _invalid_json(f"`{path}` is nested too deep; at most 250 levels are served.", path) from None


def keep_unknown(extra: Document, name: str, value: object) -> None:
    """Add an unknown field of the request itself. Raises invalid_request for one more than MAX_UNKNOWN_FIELDS."""
    if len(extra) >= MAX_UNKNOWN_FIELDS:
        raise _too_many("The request", name[:_MAX_PARAM])
    extra[name] = value


def dump_request_extra(extra: Document) -> str:
    """Return the unknown fields of a request as its `extra_json`.

    Raises invalid_request, naming the largest of them, where they are more than MAX_REQUEST_EXTRA_BYTES together.
    """
    if len(extra) > MAX_UNKNOWN_FIELDS:
        raise _too_many("The request", next(reversed(extra))[:_MAX_PARAM])
    for name, value in extra.items():
        if _is_longer(name, MAX_REQUEST_EXTRA_BYTES) or _is_longer(value, MAX_REQUEST_EXTRA_BYTES):
            raise _too_large("The request", name[:_MAX_PARAM], MAX_REQUEST_EXTRA_BYTES)
    text = dump_text(extra, "the request")
    if _exceeds(text, MAX_REQUEST_EXTRA_BYTES):
        largest = max(extra, key=lambda name: len(orjson.dumps(extra[name])))
        raise _too_large("The request", largest[:_MAX_PARAM], MAX_REQUEST_EXTRA_BYTES)
    return text


def check_length(value: object, path: str, limit: int) -> None:
    """Raise invalid_request where the value at `path` is surely longer than `limit` bytes as text."""
    if _is_longer(value, limit):
        raise _invalid(f"`{path}` is too large; at most {limit:,} bytes are served.", path)


def dump_extra(extra: Document, path: str) -> str:
    """Return the unknown fields of the object at `path` as its `extra_json`.

    Raises invalid_request for more than MAX_UNKNOWN_FIELDS or MAX_EXTRA_BYTES.
    """
    if len(extra) > MAX_UNKNOWN_FIELDS:
        raise _too_many(f"`{path}`", path)
    if _is_longer(extra, MAX_EXTRA_BYTES):
        raise _too_large(f"`{path}`", path, MAX_EXTRA_BYTES)
    text = dump_text(extra, path)
    if _exceeds(text, MAX_EXTRA_BYTES):
        raise _too_large(f"`{path}`", path, MAX_EXTRA_BYTES)
    return text


def unknown_fields(document: Document, known: frozenset[str], path: str) -> Document | None:
    """Return the fields whose names are not in `known`, in order, or None where there are none.

    Raises invalid_request naming `path` for more than MAX_UNKNOWN_FIELDS.
    """
    if document.keys() <= known:
        return None
    if len(document) > MAX_UNKNOWN_FIELDS + len(known):
        raise _too_many(f"`{path}`", path)
    unknown = {name: value for name, value in document.items() if name not in known}
    if len(unknown) > MAX_UNKNOWN_FIELDS:
        raise _too_many(f"`{path}`", path)
    return unknown


def extra_fields(extra_json: str) -> Document:
    """Return the fields that an `extra_json` holds; what is not an object holds none."""
    if not extra_json:
        return {}
    try:
        extra = orjson.loads(extra_json)
    except orjson.JSONDecodeError:
        return {}
    return extra if type(extra) is dict else {}


def add_extra(document: Document, extra_json: str) -> None:
    """Add fields that only the dialect knows, one level deep into objects; never replace what is typed."""
    for name, value in extra_fields(extra_json).items():
        present = document.get(name)
        if name not in document:
            document[name] = value
        elif type(present) is dict and type(value) is dict:
            for inner, inner_value in value.items():
                present.setdefault(inner, inner_value)


def _is_longer(value: object, limit: int) -> bool:
    """Whether a value is surely longer than `limit` as text; told before it is written, which may take far longer."""
    length, waiting = 0, [[value]]
    while waiting and length <= limit:
        for one in waiting.pop():
            kind = type(one)
            length += 2
            if kind is str:
                length += len(cast("str", one))
            elif kind is float:
                length += 2
            elif kind is list:
                waiting.append(cast("list[object]", one))
            elif kind is dict:
                names = cast("Document", one)
                length += sum(map(len, names)) + 4 * len(names)
                waiting.append(list(names.values()))
            if length > limit:
                break
    return length > limit + 2


def _exceeds(text: str, limit: int) -> bool:
    """Whether a text takes more than `limit` bytes in UTF-8."""
    return len(text) > limit or (4 * len(text) > limit and len(text.encode()) > limit)


def _too_many(what: str, param: str) -> GatewayError:
    message = f"{what} has too many unknown fields; at most {MAX_UNKNOWN_FIELDS} are served."
    return _invalid(message, param)


def _too_large(what: str, param: str, limit: int) -> GatewayError:
    message = f"The unknown fields of {what[0].lower()}{what[1:]} are too large; at most {limit:,} bytes are served."
    return _invalid(message, param)


def _invalid(message: str, param: str) -> GatewayError:
    return GatewayError(errors_pb2.ERROR_REASON_INVALID_REQUEST, message, param=param, origin="caller")


def _invalid_json(message: str, param: str | None = None) -> GatewayError:
    return GatewayError(errors_pb2.ERROR_REASON_INVALID_JSON, message, param=param, origin="caller")


def answer_id(canonical: str, prefix: str) -> str:
    """Return the gateway's id of an answer as a dialect writes it: `cmpl_01…` is `chatcmpl-01…` or `cmpl-01…`."""
    return prefix + canonical.removeprefix("cmpl_") if canonical.startswith("cmpl_") else canonical
