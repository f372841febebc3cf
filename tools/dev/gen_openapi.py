"""Writes the OpenAPI document of the administration API from proto/api.binpb: its paths, messages and comments."""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.api import annotations_pb2, http_pb2
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorSet,
    MethodDescriptorProto,
)

from tokendance.gateway.v1 import access_pb2

ROOT = Path(__file__).resolve().parents[2]
TARGET = ROOT / "facade" / "tokendance_facade" / "admin" / "openapi.json"
PACKAGE = ".tokendance.gateway.v1."
DESCRIPTION = """\
Administration of TokenDance Gateway: keys, organizations, quotas, models, status and audit. It is served by the
internal listener only and takes the access token of a TokenDance ID session, never an API key.

Messages follow the standard JSON mapping of protocol buffers with the field names written here: whole numbers of 64
bits are strings, times are RFC 3339 in UTC, durations are seconds such as `3600s`, enums are their names. An update
changes the fields that its body names, or those of `update_mask`; a stale `etag` is refused with `version_conflict`. A
create with a `request_id` may be repeated: it never makes a second one, and no secret is shown twice."""

# Numbers of fields in descriptor.proto, from which paths of source locations are made.
_MESSAGES, _ENUMS, _SERVICES = 4, 5, 6
_FIELDS, _NESTED, _NESTED_ENUMS, _VALUES, _METHODS = 2, 3, 4, 2, 2
_VARIABLE = re.compile(r"\{([a-z_.]+)=([^}]+)\}")
_CAPITAL = re.compile(r"(?<!^)(?=[A-Z])")
# What the server fills in and ignores in requests says so in its comment.
_READ_ONLY = "Set by the gateway."

Json = dict[str, Any]
F = FieldDescriptorProto
_SCALARS: dict[int, Json] = {
    F.TYPE_BOOL: {"type": "boolean"},
    F.TYPE_BYTES: {"type": "string", "format": "byte"},
    F.TYPE_DOUBLE: {"type": "number", "format": "double"},
    F.TYPE_FLOAT: {"type": "number", "format": "float"},
    F.TYPE_INT32: {"type": "integer", "format": "int32"},
    F.TYPE_INT64: {"type": "string", "format": "int64"},
    F.TYPE_UINT32: {"type": "integer", "format": "int64", "minimum": 0},
    F.TYPE_UINT64: {"type": "string", "format": "uint64"},
    F.TYPE_STRING: {"type": "string"},
}
_WELL_KNOWN: dict[str, Json] = {
    ".google.protobuf.Timestamp": {"type": "string", "format": "date-time"},
    ".google.protobuf.Duration": {"type": "string", "pattern": r"^-?[0-9]+(\.[0-9]+)?s$", "example": "3600s"},
    ".google.protobuf.FieldMask": {"type": "string", "example": "display_name,labels"},
}
_ERROR: Json = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code", "request_id", "origin"],
            "properties": {
                "message": {"type": "string", "description": "What is wrong and what to do, for people."},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"], "description": "The field at fault."},
                "code": {"type": ["string", "null"], "description": "The stable code, for programs."},
                "request_id": {"type": "string", "description": "All that support needs."},
                "origin": {"type": "string", "enum": ["gateway", "provider", "caller"]},
            },
        }
    },
}


@dataclass(frozen=True, slots=True)
class Api:
    """The package's declarations by full name, each with its comment."""

    messages: dict[str, DescriptorProto]
    enums: dict[str, EnumDescriptorProto]
    comments: dict[str, str]


def read_api(descriptors: FileDescriptorSet) -> Api:
    """Collect what the package declares."""
    api = Api({}, {}, {})
    for file in descriptors.file:
        if f".{file.package}." != PACKAGE:
            continue
        texts = {tuple(place.path): _joined(place.leading_comments) for place in file.source_code_info.location}
        for index, message in enumerate(file.message_type):
            _collect(api, texts, PACKAGE, message, (_MESSAGES, index))
        for index, enum in enumerate(file.enum_type):
            _collect_enum(api, texts, PACKAGE, enum, (_ENUMS, index))
        for index, service in enumerate(file.service):
            for place, method in enumerate(service.method):
                text = texts.get((_SERVICES, index, _METHODS, place), "")
                api.comments[f"{PACKAGE}{service.name}.{method.name}"] = text
    return api


def render(descriptors: FileDescriptorSet) -> Json:
    """Return the whole document."""
    api = read_api(descriptors)
    used: dict[str, Json] = {}
    paths: dict[str, Json] = {}
    tags = []
    for file in descriptors.file:
        for service in file.service if f".{file.package}." == PACKAGE else ():
            bound = [method for method in service.method if method.options.HasExtension(annotations_pb2.http)]
            if bound:
                tags.append({"name": service.name.removesuffix("Service")})
            for method in bound:
                for number, rule in enumerate(_rules(method)):
                    verb = rule.WhichOneof("pattern")
                    assert verb is not None
                    path, parameters = _path(getattr(rule, verb))
                    operation = _operation(api, used, service.name, method, rule=rule, parameters=parameters)
                    operation["operationId"] += str(number + 1) if number else ""
                    paths.setdefault(path, {})[verb] = operation
    return {
        "openapi": "3.1.0",
        "info": {"title": "TokenDance Gateway administration", "version": "v1", "description": DESCRIPTION},
        "servers": [{"url": "/", "description": "The internal listener."}],
        "security": [{"tokendance_id": []}],
        "tags": tags,
        "paths": paths,
        "components": {
            "securitySchemes": {
                "tokendance_id": {
                    "type": "http",
                    "scheme": "bearer",
                    "bearerFormat": "at+jwt",
                    "description": "An access token of TokenDance ID.",
                }
            },
            "responses": {
                "Error": {
                    "description": "A refusal or a failure. The code is also in `x-tokendance-error-code`.",
                    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
                }
            },
            "schemas": {"Error": _ERROR, **dict(sorted(used.items()))},
        },
    }


def _rules(method: MethodDescriptorProto) -> Iterator[http_pb2.HttpRule]:
    rule = method.options.Extensions[annotations_pb2.http]
    yield rule
    yield from rule.additional_bindings


def _operation(
    api: Api,
    used: dict[str, Json],
    service: str,
    method: MethodDescriptorProto,
    *,
    rule: http_pb2.HttpRule,
    parameters: list[Json],
) -> Json:
    comment = api.comments[f"{PACKAGE}{service}.{method.name}"]
    callers = [
        access_pb2.CallerKind.Name(kind).removeprefix("CALLER_KIND_").lower()
        for kind in method.options.Extensions[access_pb2.access].allow
    ]
    answer = _schema_of(api, used, method.output_type)
    media = "application/x-ndjson" if method.server_streaming else "application/json"
    operation: Json = {
        "operationId": method.name,
        "tags": [service.removesuffix("Service")],
        "summary": comment.partition(". ")[0].rstrip("."),
        "description": comment,
        "x-tokendance-callers": callers,
        "parameters": parameters + _query(api, used, method, rule),
        "responses": {
            "200": {"description": "Done.", "content": {media: {"schema": answer}}},
            "default": {"$ref": "#/components/responses/Error"},
        },
    }
    if rule.body:
        request = api.messages[method.input_type]
        if rule.body == "*":
            schema = _schema_of(api, used, method.input_type)
        else:
            field = next(field for field in request.field if field.name == rule.body)
            schema = _schema_of(api, used, field.type_name)
        operation["requestBody"] = {"required": rule.body != "*", "content": {"application/json": {"schema": schema}}}
    return operation


def _path(template: str) -> tuple[str, list[Json]]:
    """Return the path as OpenAPI writes it, with a parameter for each wildcard."""
    expanded = _VARIABLE.sub(lambda match: match[2].replace("**", f"<{match[1].rpartition('.')[2]}>"), template)
    names: list[str] = []
    segments: list[str] = []
    for segment in expanded.split("/"):
        # A wildcard may have a verb behind it.
        wildcard, colon, verb = segment.partition(":")
        if wildcard == "*":
            name = _CAPITAL.sub("_", segments[-1].removesuffix("s")).lower()
        elif wildcard.startswith("<"):
            name = wildcard.strip("<>").removesuffix("name") or segments[-1].removesuffix("s")
        else:
            segments.append(segment)
            continue
        names.append(name)
        segments.append(f"{{{name}}}{colon}{verb}")
    parameters = [{"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names]
    return "/".join(segments), parameters


def _query(api: Api, used: dict[str, Json], method: MethodDescriptorProto, rule: http_pb2.HttpRule) -> list[Json]:
    if rule.body == "*":
        return []
    verb = rule.WhichOneof("pattern")
    assert verb is not None
    taken = {name for name, _ in _VARIABLE.findall(getattr(rule, verb))} | {rule.body}
    return list(_query_of(api, used, method.input_type, "", taken))


def _query_of(api: Api, used: dict[str, Json], message: str, prefix: str, taken: set[str]) -> Iterator[Json]:
    for field in api.messages[message].field:
        name = prefix + field.name
        if name in taken:
            continue
        inner = field.type_name
        if field.type == F.TYPE_MESSAGE and inner in api.messages and not api.messages[inner].options.map_entry:
            if field.label != F.LABEL_REPEATED:
                yield from _query_of(api, used, inner, f"{name}.", taken)
            continue
        parameter: Json = {
            "name": name,
            "in": "query",
            "description": api.comments[f"{message}.{field.name}"],
            "schema": _field_schema(api, used, field),
        }
        if field.type == F.TYPE_MESSAGE and inner in api.messages:
            parameter |= {"style": "deepObject"}
            parameter["description"] += f" Written as `{name}.KEY=VALUE`."
        yield parameter


def _schema_of(api: Api, used: dict[str, Json], name: str) -> Json:
    """Return a reference to a message or an enum, and see that it is among those used."""
    if name in _WELL_KNOWN:
        return dict(_WELL_KNOWN[name])
    short = name.removeprefix(PACKAGE)
    if short not in used:
        used[short] = {}  # before its fields are looked at: it may hold itself
        used[short] = _enum_schema(api, name) if name in api.enums else _message_schema(api, used, name)
    return {"$ref": f"#/components/schemas/{short}"}


def _enum_schema(api: Api, name: str) -> Json:
    rows = [
        f"- `{value.name}`: {api.comments[f'{name}.{value.name}']}" for value in api.enums[name].value if value.number
    ]
    text = "\n".join([api.comments[name], "", *rows])
    return {"type": "string", "enum": [value.name for value in api.enums[name].value], "description": text}


def _message_schema(api: Api, used: dict[str, Json], name: str) -> Json:
    properties = {}
    for field in api.messages[name].field:
        schema = _field_schema(api, used, field)
        comment = api.comments[f"{name}.{field.name}"]
        properties[field.name] = schema | {"description": comment}
        if _READ_ONLY in comment:
            properties[field.name]["readOnly"] = True
    return {"type": "object", "description": api.comments[name], "properties": properties}


def _field_schema(api: Api, used: dict[str, Json], field: FieldDescriptorProto) -> Json:
    inner = api.messages.get(field.type_name)
    if inner is not None and inner.options.map_entry:
        return {"type": "object", "additionalProperties": _field_schema(api, used, inner.field[1])}
    one = _schema_of(api, used, field.type_name) if field.type_name else dict(_SCALARS[field.type])
    return {"type": "array", "items": one} if field.label == F.LABEL_REPEATED else one


def _collect(
    api: Api, texts: dict[tuple[int, ...], str], scope: str, message: DescriptorProto, path: tuple[int, ...]
) -> None:
    name = scope + message.name
    api.messages[name] = message
    api.comments[name] = texts.get(path, "")
    for index, field in enumerate(message.field):
        api.comments[f"{name}.{field.name}"] = texts.get((*path, _FIELDS, index), "")
    for index, nested in enumerate(message.nested_type):
        _collect(api, texts, f"{name}.", nested, (*path, _NESTED, index))
    for index, enum in enumerate(message.enum_type):
        _collect_enum(api, texts, f"{name}.", enum, (*path, _NESTED_ENUMS, index))


def _collect_enum(
    api: Api, texts: dict[tuple[int, ...], str], scope: str, enum: EnumDescriptorProto, path: tuple[int, ...]
) -> None:
    name = scope + enum.name
    api.enums[name] = enum
    api.comments[name] = texts.get(path, "")
    for index, value in enumerate(enum.value):
        api.comments[f"{name}.{value.name}"] = texts.get((*path, _VALUES, index), "")


def _joined(comment: str) -> str:
    return " ".join(comment.split())


def main(argv: Sequence[str] | None = None) -> int:
    """Write the document, or with --check say whether it would change and return 1."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if the document would change")
    parser.add_argument("--descriptors", type=Path, default=ROOT / "proto" / "api.binpb")
    parser.add_argument("--target", type=Path, default=TARGET)
    options = parser.parse_args(argv)
    document = render(FileDescriptorSet.FromString(options.descriptors.read_bytes()))
    text = json.dumps(document, indent=1, ensure_ascii=False) + "\n"
    if not options.check:
        options.target.write_text(text)
        return 0
    if options.target.exists() and options.target.read_text() == text:
        return 0
    print(f"{options.target.name} is out of date: run `make gen` and commit the result.", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
