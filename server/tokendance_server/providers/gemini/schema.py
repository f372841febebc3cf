"""JSON Schemas as this dialect takes them: what it does not know is rewritten where that says the same, else left out.

Left out is named: the model may then answer with what the whole schema would not have allowed.
"""

from __future__ import annotations

from typing import Any

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import errors_pb2
from tokendance_server.providers.warnings import Warnings

Json = dict[str, Any]

_TAKEN = frozenset(
    {
        "$anchor", "$defs", "$id", "$ref", "additionalProperties", "anyOf", "description", "enum", "format", "items",
        "maxItems", "maximum", "minItems", "minimum", "oneOf", "prefixItems", "properties", "propertyOrdering",
        "required", "title", "type",
    }
)  # fmt: skip
# These only say something about the schema, not about what satisfies it: nobody misses them.
_SILENT = frozenset({"$schema", "$comment", "default", "deprecated", "example", "examples", "readOnly", "writeOnly"})
_SCHEMAS_BY_NAME = ("properties", "$defs")
_LISTS_OF_SCHEMAS = ("anyOf", "oneOf", "prefixItems")
_ONE_SCHEMA = ("items", "additionalProperties")
_DEEPEST = 100
_WHY = "This model does not know the keyword; the answer may not keep to it."


def adapt_schema(schema: Json, path: str, gaps: Warnings | None = None) -> Json:
    """Return the schema with what the upstream takes; what is left out is added to `gaps`.

    `path` is where the schema stands in the caller's request. Raises invalid_request for one nested too deeply.
    """
    return _adapted(schema, path, gaps if gaps is not None else Warnings(), 0)


def _adapted(schema: Json, path: str, gaps: Warnings, depth: int) -> Json:
    if depth > _DEEPEST:
        root = path.partition(".properties")[0]
        raise GatewayError(
            errors_pb2.ERROR_REASON_INVALID_REQUEST,
            f"The schema in {root} is nested too deeply; at most {_DEEPEST} levels are served.",
            param=root,
            metadata={"param": root},
            origin="caller",
        )
    schema = _rewritten(schema)
    if "$ref" in schema:
        kept = {name: value for name, value in schema.items() if name.startswith("$") and name in _TAKEN}
        gaps.add_all(sorted(schema.keys() - kept.keys() - _SILENT - {"title", "description"}), _WHY, f"{path}.")
        schema = kept
    written: Json = {}
    for name, value in schema.items():
        where = f"{path}.{name}"
        if name in _SCHEMAS_BY_NAME and isinstance(value, dict):
            written[name] = {key: _inner(one, f"{where}.{key}", gaps, depth) for key, one in value.items()}
        elif name in _LISTS_OF_SCHEMAS and isinstance(value, list):
            written[name] = [_inner(one, f"{where}[{at}]", gaps, depth) for at, one in enumerate(value)]
        elif name in _ONE_SCHEMA:
            written[name] = _inner(value, where, gaps, depth)
        elif name in _TAKEN:
            written[name] = value
        elif name not in _SILENT:
            gaps.add(where, _WHY)
    return written


def _inner(schema: Any, path: str, gaps: Warnings, depth: int) -> Any:
    """A schema inside another: `true` and `false` are schemas, too."""
    return _adapted(schema, path, gaps, depth + 1) if isinstance(schema, dict) else schema


def _rewritten(schema: Json) -> Json:
    """The same in the keywords that are taken: one value, the older name of definitions, one schema of `allOf`."""
    if not schema.keys() & {"$ref", "allOf", "const", "definitions"}:
        return schema
    schema = dict(schema)
    if "const" in schema:
        schema["enum"] = [schema.pop("const")]
    if "definitions" in schema and "$defs" not in schema:
        schema["$defs"] = schema.pop("definitions")
    together = schema.get("allOf")
    if isinstance(together, list) and len(together) == 1 and isinstance(together[0], dict):
        del schema["allOf"]
        return _rewritten({**together[0], **schema})
    reference = schema.get("$ref")
    if isinstance(reference, str) and reference.startswith("#/definitions/"):
        schema["$ref"] = "#/$defs/" + reference.removeprefix("#/definitions/")
    return schema
