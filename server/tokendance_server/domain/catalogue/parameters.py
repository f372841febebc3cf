"""Parameters of a route: JSON objects in the upstream's own names, and what may not be among them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from google.protobuf.descriptor import FieldDescriptor

from tokendance.gateway.v1 import completion_pb2

MOST_BYTES = 16 * 1024
_DEEPEST = 16

# What the gateway itself says of every call: which model, what is asked, how the answer comes, and how many there are,
# for these decide what a call costs and how it is read.
_OWN = frozenset(
    {
        "candidateCount", "contents", "input", "messages", "model", "n", "prompt", "stream", "stream_options",
        "system", "systemInstruction",
    }
)  # fmt: skip
# A caller's cap bounds what is held of its quota; a default may stand where it gives none.
_CAPS = frozenset({"maxOutputTokens", "max_completion_tokens", "max_output_tokens", "max_tokens"})


def problem_of(text: str, *, forced: bool) -> str | None:
    """Return what is wrong with the parameters of a route, to be said behind their name; None where nothing is."""
    if not text:
        return None
    if len(text.encode()) > MOST_BYTES:
        return f"must be at most {MOST_BYTES // 1024} KiB"
    try:
        parameters = json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        parameters = None
    if not isinstance(parameters, dict) or _is_deep(parameters, 0):
        return "must be one JSON object"
    own = _OWN | _CAPS if forced else _OWN
    for name in _names(parameters):
        if name in own:
            return f"must not hold {name}, which is the gateway's own, or its callers'"
    return None


def overridden(request: completion_pb2.CompletionRequest, forced: str) -> Sequence[completion_pb2.Warning]:
    """Tell what of a request the forced parameters of its route stand above, by the caller's names where they agree."""
    if not forced:
        return ()
    said = {name for message in (request, request.sampling) for name in map(_name_of, message.ListFields())}
    if request.reasoning.effort:
        said.add("reasoning_effort")
    if request.extra_json:
        said.update(_keys(request.extra_json))
    why = "The gateway's operator sets this field for the model."
    return [completion_pb2.Warning(field=name, why=why) for name in _keys(forced) if name in said]


def canonical(text: str) -> str:
    """Return parameters as they are kept: compact, their names in their order, and nothing for an empty object."""
    parameters = json.loads(text) if text else {}
    return json.dumps(parameters, ensure_ascii=False, separators=(",", ":")) if parameters else ""


def _names(parameters: Mapping[str, Any]) -> list[str]:
    """The names at the top, and those of the one place where some upstreams have their parameters."""
    inner = parameters.get("generationConfig")
    return [*parameters, *(inner if isinstance(inner, dict) else ())]


def _name_of(field: tuple[FieldDescriptor, Any]) -> str:
    return field[0].name


def _keys(text: str) -> list[str]:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return []
    return [*document] if isinstance(document, dict) else []


def _is_deep(value: Any, depth: int) -> bool:
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return depth > _DEEPEST or any(_is_deep(one, depth + 1) for one in inside)


def _refuse(constant: str) -> Any:
    raise ValueError(constant)
