"""JSON in and out: strict reading of a request body, and the text of documents whose shape is not ours."""

from __future__ import annotations

from typing import Any, cast

import orjson

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import errors_pb2

Document = dict[str, Any]


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


def unknown_fields(document: Document, known: frozenset[str]) -> Document | None:
    """Return the fields whose names are not in `known`, in order, or None where there are none."""
    if document.keys() <= known:
        return None
    return {name: value for name, value in document.items() if name not in known}


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


def _invalid_json(message: str, param: str | None = None) -> GatewayError:
    return GatewayError(errors_pb2.ERROR_REASON_INVALID_JSON, message, param=param, origin="caller")


def answer_id(canonical: str, prefix: str) -> str:
    """Return the gateway's id of an answer as a dialect writes it: `cmpl_01…` is `chatcmpl-01…` or `cmpl-01…`."""
    return prefix + canonical.removeprefix("cmpl_") if canonical.startswith("cmpl_") else canonical
