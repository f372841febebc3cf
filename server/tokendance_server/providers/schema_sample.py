"""A small document that satisfies a JSON Schema: what the demo answers where a schema is asked for. Pure.

Understood: type, const, enum, properties, required, items, prefixItems, anyOf, oneOf, allOf, local $ref, and the bounds
of lengths, items and numbers. Not understood, and so perhaps not satisfied: pattern, not, if, dependencies, formats but
for those in the table, uniqueItems.
"""

from __future__ import annotations

import math
from typing import Any

Json = dict[str, Any]

WORD = "demo"
MOST_DEPTH = 24
MOST_NODES = 2000
MOST_ITEMS = 100
MOST_CHARACTERS = 1000

_FORMATS = {
    "date": "2025-01-01",
    "date-time": "2025-01-01T00:00:00Z",
    "time": "00:00:00Z",
    "duration": "P1D",
    "email": "demo@example.com",
    "hostname": "example.com",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "uri": "https://example.com/",
    "uuid": "00000000-0000-4000-8000-000000000000",
}


def sample(schema: Any) -> Any:
    """Return a document that satisfies `schema`, as small as its rules allow; null where nothing can.

    A schema may refer to itself without end; beyond MOST_DEPTH and MOST_NODES there is only null.
    """
    return _Sampler(schema).sample(schema, MOST_DEPTH)


class _Sampler:
    """Walks one schema; `root` is what its references point into."""

    def __init__(self, root: Any) -> None:
        self._root = root
        self._nodes = MOST_NODES

    def sample(self, schema: Any, depth: int) -> Any:
        self._nodes -= 1
        if depth <= 0 or self._nodes < 0 or schema is False:
            return None
        if not isinstance(schema, dict):
            return {}
        schema = self._resolve(schema, depth)
        if "const" in schema:
            return schema["const"]
        if isinstance(schema.get("enum"), list) and schema["enum"]:
            return schema["enum"][0]
        for choice in ("anyOf", "oneOf"):
            if isinstance(schema.get(choice), list) and schema[choice]:
                return self.sample(self._chosen(schema, choice, depth), depth - 1)
        kind = _kind(schema)
        if kind == "object":
            return self._object(schema, depth)
        if kind == "array":
            return self._array(schema, depth)
        if kind == "string":
            return _string(schema)
        if kind in ("integer", "number"):
            return _number(schema, whole=kind == "integer")
        return {"boolean": True, "null": None}.get(kind, {})

    def _resolve(self, schema: Json, depth: int) -> Json:
        """Follow references, and put the parts of `allOf` together."""
        for _ in range(MOST_DEPTH):
            if not isinstance(schema.get("$ref"), str):
                break
            found = _at(self._root, schema["$ref"])
            rest = {name: value for name, value in schema.items() if name != "$ref"}
            schema = {**found, **rest} if isinstance(found, dict) else rest
        parts = schema.get("allOf")
        if not isinstance(parts, list):
            return schema
        schema = {name: value for name, value in schema.items() if name != "allOf"}
        for part in parts:
            self._nodes -= 1
            if isinstance(part, dict) and depth > 0 and self._nodes > 0:
                schema = _joined(schema, self._resolve(part, depth - 1))
        return schema

    def _chosen(self, schema: Json, choice: str, depth: int) -> Json:
        """The simplest alternative, together with what stands beside the alternatives."""
        options = [self._resolve(option, depth - 1) for option in schema[choice] if isinstance(option, dict)]
        plain = [option for option in options if _kind(option) not in ("object", "array", "null")]
        rest = {name: value for name, value in schema.items() if name != choice}
        return _joined(rest, (plain or options or [{}])[0])

    def _object(self, schema: Json, depth: int) -> Json:
        properties = schema.get("properties")
        properties = properties if isinstance(properties, dict) else {}
        required = schema.get("required")
        names = [name for name in required if isinstance(name, str)] if isinstance(required, list) else []
        return {name: self.sample(properties.get(name, {}), depth - 1) for name in names}

    def _array(self, schema: Json, depth: int) -> list[Any]:
        first = schema.get("prefixItems")
        first = first if isinstance(first, list) else []
        wanted = min(max(_bound(schema, "minItems"), 0), MOST_ITEMS)
        items = [first[at] if at < len(first) else schema.get("items", {}) for at in range(wanted)]
        return [self.sample(item, depth - 1) for item in items]


def _joined(one: Json, other: Json) -> Json:
    joined = {**other, **one}
    if isinstance(one.get("properties"), dict) and isinstance(other.get("properties"), dict):
        joined["properties"] = {**other["properties"], **one["properties"]}
    if isinstance(one.get("required"), list) and isinstance(other.get("required"), list):
        joined["required"] = [*one["required"], *other["required"]]
    return joined


def _at(root: Any, reference: str) -> Any:
    """What a local reference such as `#/$defs/city` points to, or None."""
    if not reference.startswith("#"):
        return None
    found = root
    for step in reference[1:].split("/")[1:]:
        name = step.replace("~1", "/").replace("~0", "~")
        if isinstance(found, list) and name.isdecimal() and int(name) < len(found):
            found = found[int(name)]
        elif isinstance(found, dict):
            found = found.get(name)
        else:
            return None
    return found


def _kind(schema: Json) -> str:
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = next((one for one in kind if one != "null"), "null")
    if isinstance(kind, str):
        return kind
    if "properties" in schema or "required" in schema:
        return "object"
    return "array" if "items" in schema or "prefixItems" in schema else ""


def _string(schema: Json) -> str:
    kind = schema.get("format")
    text = _FORMATS.get(kind, WORD) if isinstance(kind, str) else WORD
    least = min(_bound(schema, "minLength"), MOST_CHARACTERS)
    text += WORD * (-(-(least - len(text)) // len(WORD)) if least > len(text) else 0)
    most = schema.get("maxLength")
    return text[: max(most, 0)] if isinstance(most, int) else text


def _bound(schema: Json, name: str) -> int:
    value = schema.get(name)
    return value if isinstance(value, int) else 0


def _number(schema: Json, *, whole: bool) -> int | float:
    """The number nearest to nought that is within bounds and a multiple as asked."""
    step = schema.get("multipleOf")
    step = step if isinstance(step, int | float) and 0 < step <= 2**53 else 1
    inside = 1 if whole else step / 2
    low = _limit(schema, "minimum", "exclusiveMinimum", inside)
    high = _limit(schema, "maximum", "exclusiveMaximum", -inside)
    value: int | float = 0
    if low is not None and low > 0:
        value = math.ceil(low / step) * step if math.isfinite(low / step) else low
    elif high is not None and high < 0:
        value = math.floor(high / step) * step if math.isfinite(high / step) else high
    if "multipleOf" not in schema and not whole and low is not None and high is not None and not low <= value <= high:
        value = (low + high) / 2
    return int(value) if whole else value


def _limit(schema: Json, name: str, exclusive: str, inside: float) -> int | float | None:
    """A bound that the schema sets, moved inside where it is itself excluded; bounds beyond 2^53 are not looked at."""
    plain, open_end = _plain_number(schema.get(name)), _plain_number(schema.get(exclusive))
    return plain if open_end is None else open_end + inside


def _plain_number(value: Any) -> int | float | None:
    return value if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= 2**53 else None
