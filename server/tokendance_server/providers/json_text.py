"""JSON documents whose shape is not ours: read, joined and written without losing key order or large integers."""

from __future__ import annotations

import json
from typing import Any

import msgspec

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import errors_pb2

_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode

MOST_UNKNOWN_FIELDS = 256
"""Unknown fields of one object: far above any dialect, and few enough that looking at each costs nothing."""

UNREADABLE = (msgspec.DecodeError, RecursionError, UnicodeDecodeError)
"""What reading a document from outside may raise."""


def read(data: bytes | str) -> Any:
    """Return what a JSON text says. Raises one of UNREADABLE; NaN, bad UTF-8 and excessive depth are among them."""
    return _decode(data)


def read_lenient(data: bytes) -> Any:
    """Return what a JSON text says, with null for NaN and Infinity, which some servers write among their counts.

    Raises one of UNREADABLE.
    """
    try:
        return _decode(data)
    except msgspec.DecodeError:
        if b"NaN" not in data and b"Infinity" not in data:
            raise
    try:
        # Written and read again, because the other reader lets half a surrogate pair pass.
        return _decode(_encode(json.loads(data, parse_constant=lambda _: None)))
    except ValueError as exc:
        raise msgspec.DecodeError(str(exc)) from exc


def write(value: Any) -> str:
    """Return `value` as compact JSON text."""
    return _encode(value).decode()


def write_object(value: dict[str, Any]) -> str:
    """Return `value` as JSON text, or an empty text where it holds nothing, as the `…_json` fields want it."""
    return _encode(value).decode() if value else ""


def caller_object(text: str, param: str) -> dict[str, Any]:
    """Return the JSON object in one of the caller's own fields; raises invalid_request, naming it."""
    try:
        value = _decode(text)
    except UNREADABLE:
        value = None
    if not isinstance(value, dict):
        raise GatewayError(
            errors_pb2.ERROR_REASON_INVALID_REQUEST,
            f"The field {param} must hold one JSON object.",
            param=param,
            metadata={"param": param},
            origin="caller",
        )
    return value


def caller_extra(text: str, param: str) -> dict[str, Any]:
    """Return the unknown fields in one of the caller's `extra_json`; raises invalid_request, also for too many."""
    extra = caller_object(text, param)
    if len(extra) > MOST_UNKNOWN_FIELDS:
        raise GatewayError(
            errors_pb2.ERROR_REASON_INVALID_REQUEST,
            f"The field {param} has too many fields; at most {MOST_UNKNOWN_FIELDS} are served.",
            param=param,
            metadata={"param": param},
            origin="caller",
        )
    return extra


def add_missing(document: dict[str, Any], extra: dict[str, Any]) -> None:
    """Add to `document` what only `extra` has, objects inside objects included; what is there stays as it is."""
    for name, value in extra.items():
        if name not in document:
            document[name] = value
        elif isinstance(document[name], dict) and isinstance(value, dict):
            add_missing(document[name], value)
