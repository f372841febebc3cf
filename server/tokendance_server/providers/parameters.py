"""Parameters of a route, joined to the body of a request: the default ones below it, the forced ones above. Pure."""

from __future__ import annotations

import copy
from functools import lru_cache
from typing import Any

from tokendance_server.providers import json_text


def join(body: bytes, default: str, forced: str) -> bytes:
    """Return the body with the parameters of its route; objects inside objects are joined field by field.

    Each of the three is one JSON object, the parameters perhaps empty. A forced null takes a field out.
    """
    if not (default or forced):
        return body
    document = json_text.read(body)
    if default:
        json_text.add_missing(document, copy.deepcopy(_read(default)))
    if forced:
        _force(document, _read(forced))
    return json_text.write(document).encode()


@lru_cache(maxsize=1024)
def _read(text: str) -> dict[str, Any]:
    parameters: dict[str, Any] = json_text.read(text)
    return parameters


def _force(document: dict[str, Any], parameters: dict[str, Any]) -> None:
    for name, value in parameters.items():
        if value is None:
            document.pop(name, None)
        elif isinstance(value, dict) and isinstance(document.get(name), dict):
            _force(document[name], value)
        else:
            document[name] = copy.deepcopy(value)
