"""Makes a small JSON value that satisfies a simple JSON schema, always the same one; does no I/O."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# Deeper schemas are cut with null: a recursive one has no smallest document that we could find cheaply.
DEPTH_LIMIT = 12

_FORMATS = {
    "date": "2026-01-02",
    "date-time": "2026-01-02T03:04:05Z",
    "email": "someone@example.com",
    "time": "03:04:05Z",
    "uri": "https://example.com/",
    "uuid": "00000000-0000-4000-8000-000000000000",
}


def example_of(schema: Any) -> Any:
    """A value for the schema.

    Knows type, enum, const, default, properties (all of them, required or not), items, minItems, minLength,
    minimum, format, anyOf/oneOf/allOf and `$ref` into the same document; ignores everything else.
    """
    return _example(schema, schema, 0)


def _example(schema: Any, root: Any, depth: int) -> Any:
    if not isinstance(schema, Mapping) or depth > DEPTH_LIMIT:
        return None
    if "$ref" in schema:
        return _example(_resolve(str(schema["$ref"]), root), root, depth + 1)
    if "const" in schema:
        return schema["const"]
    if schema.get("enum"):
        return schema["enum"][0]
    for word in ("anyOf", "oneOf"):
        if schema.get(word):
            return _example(schema[word][0], root, depth + 1)
    if schema.get("allOf"):
        return _merged([_example(part, root, depth + 1) for part in schema["allOf"]])
    return _typed(schema, root, depth)


def _typed(schema: Mapping[str, Any], root: Any, depth: int) -> Any:
    kind = schema.get("type", "object" if "properties" in schema else "string")
    if isinstance(kind, list):
        kind = kind[0]
    if kind == "object":
        properties = schema.get("properties") or {}
        return {name: _example(part, root, depth + 1) for name, part in properties.items()}
    if kind == "array":
        items = schema.get("items", {"type": "string"})
        return [_example(items, root, depth + 1) for _ in range(max(1, int(schema.get("minItems", 1))))]
    if kind in ("integer", "number"):
        least = schema.get("minimum", schema.get("exclusiveMinimum", 0) + 1)
        return int(least) if kind == "integer" else float(least)
    if kind == "boolean":
        return True
    if kind == "null":
        return None
    text = _FORMATS.get(str(schema.get("format", "")), "example")
    return text.ljust(int(schema.get("minLength", 0)), "x")


def _merged(values: list[Any]) -> Any:
    merged: dict[str, Any] = {}
    for value in values:
        if not isinstance(value, dict):
            return value
        merged.update(value)
    return merged


def _resolve(reference: str, root: Any) -> Any:
    """Follows `#/a/b`; None (an unknown schema) for what leads nowhere."""
    found = root
    for step in reference.removeprefix("#").split("/")[1:]:
        if not isinstance(found, Mapping) or step not in found:
            return None
        found = found[step]
    return found
