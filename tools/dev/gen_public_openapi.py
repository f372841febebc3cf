"""Writes the public OpenAPI document: paths and messages of tools/dev/openapi, errors of the one table."""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from tokendance.errors import table
from tokendance.gateway.v1 import errors_pb2

ROOT = Path(__file__).resolve().parents[2]
SOURCES = Path(__file__).with_name("openapi")
TARGET = ROOT / "facade" / "tokendance_facade" / "pages" / "data" / "openapi.json"
DESCRIPTION = """\
Model calls, and what a key's holder may know of its limits and its usage. Every call takes a TokenDance API key; only
the status needs none. Each answer has `x-request-id`, and each error a stable code that leads to its row of the errors
page."""

Json = dict[str, Any]
_HEADERS: Json = {
    "x-request-id": {"description": "The id of this request.", "schema": {"type": "string"}, "required": True}
}
_ERROR_HEADERS: Json = {
    **_HEADERS,
    "x-tokendance-error-code": {
        "description": "The stable code.",
        "schema": {"type": "string"},
        "required": True,
    },
    "x-should-retry": {"description": "`false` where a repeat cannot help.", "schema": {"type": "string"}},
    "retry-after": {"description": "Whole seconds after which a repeat may succeed.", "schema": {"type": "integer"}},
    "link": {"description": "The row of the code on the errors page.", "schema": {"type": "string"}},
}


def render() -> Json:
    """Return the whole document. Raises KeyError where a source names an enum or a family that is not there."""
    schemas = _load("schemas")
    paths: Json = {}
    for path, verbs in _load("paths").items():
        paths[path] = {verb: _operation(operation) for verb, operation in verbs.items()}
    return {
        "openapi": "3.1.0",
        "info": {"title": "TokenDance Gateway", "version": "v1", "description": " ".join(DESCRIPTION.split())},
        "servers": [{"url": "/", "description": "This gateway."}],
        "security": [{"api_key": []}],
        "tags": [
            {"name": "Models", "description": "Calling models, and which there are."},
            {"name": "Your key", "description": "What the holder of a key may know of it."},
            {"name": "Status", "description": "What works now."},
        ],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "api_key": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "A TokenDance API key: `tdk_…`. It is taken as `x-api-key`, too.",
                }
            },
            "parameters": {
                "IdempotencyKey": {
                    "name": "Idempotency-Key",
                    "in": "header",
                    "description": "Makes a repeat harmless: the same request is answered once and charged once.",
                    "schema": {"type": "string", "pattern": "^[\\x21-\\x7e]{1,255}$"},
                }
            },
            "schemas": _with_words(schemas),
        },
    }


def _load(name: str) -> Json:
    document: Json = yaml.safe_load((SOURCES / f"{name}.yaml").read_text(encoding="utf-8"))
    return document


def _operation(source: Json) -> Json:
    operation = {name: value for name, value in source.items() if name != "x-answer"}
    surface = errors_pb2.Surface.Value(f"SURFACE_{source['x-surface'].upper()}")
    answer = {media: {"schema": schema} for media, schema in source["x-answer"].items()}
    operation["responses"] = {
        "200": {"description": "The answer.", "headers": _HEADERS, "content": answer},
        **dict(_failures(surface, source["x-errors"])),
    }
    return operation


def _failures(surface: errors_pb2.Surface.ValueType, families: Sequence[str]) -> Iterator[tuple[str, Json]]:
    """Yield each status with which an operation may fail, and its codes."""
    wanted = {errors_pb2.ErrorFamily.Value(f"ERROR_FAMILY_{family.upper()}") for family in families}
    codes: dict[int, list[str]] = {}
    for _, spec in table():
        if spec.family in wanted:
            status = next(
                (one.http_status for one in spec.overrides if one.surface == surface and one.http_status),
                spec.http_status,
            )
            codes.setdefault(status, []).append(spec.code)
    schema = "AnthropicError" if surface == errors_pb2.SURFACE_MESSAGES else "Error"
    for status in sorted(codes):
        yield (
            str(status),
            {
                "description": ", ".join(f"`{code}`" for code in sorted(codes[status])),
                "headers": _ERROR_HEADERS,
                "content": {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}},
            },
        )


def _with_words(value: Any) -> Any:
    """Return a schema with the words of the enums that it names; null beside them where the type allows it."""
    if isinstance(value, list):
        return [_with_words(one) for one in value]
    if not isinstance(value, dict):
        return value
    found = {name: _with_words(one) for name, one in value.items() if name != "x-words"}
    if "x-words" in value:
        module, enum, prefix = value["x-words"]
        descriptor = importlib.import_module(f"tokendance.gateway.v1.{module}").DESCRIPTOR.enum_types_by_name[enum]
        words: list[str | None] = [one.name.removeprefix(prefix).lower() for one in descriptor.values if one.number]
        found["enum"] = words + ([None] if "null" in value["type"] else [])
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the document, or with --check tell whether it is up to date; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail where it is not up to date")
    options = parser.parse_args(arguments)
    text = json.dumps(render(), indent=1, ensure_ascii=False) + "\n"
    if not options.check:
        TARGET.write_text(text, encoding="utf-8")
        return 0
    if TARGET.exists() and TARGET.read_text(encoding="utf-8") == text:
        return 0
    print(f"{TARGET} is not up to date; run tools/dev/gen_public_openapi.py", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
