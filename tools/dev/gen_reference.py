"""Writes what the public site's references are made of from proto/api.binpb: the error table, and the gRPC API."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
    ServiceDescriptorProto,
)

from tokendance.gateway.v1 import access_pb2
from tokendance.gateway.v1 import errors_pb2 as pb

ROOT = Path(__file__).resolve().parents[2]
TARGET = ROOT / "facade" / "tokendance_facade" / "pages" / "data" / "reference.json"
FOLDER = "tokendance/gateway/v1/"
PACKAGE = ".tokendance.gateway.v1."
# What only the parts of the gateway say to each other, and what is no message of the API.
PRIVATE = frozenset({"access", "caller", "errors", "facade_service", "nodes_service"})

# Numbers of fields in descriptor.proto, from which paths of source locations are made.
_SYNTAX = 12
_MESSAGES, _ENUMS, _SERVICES = 4, 5, 6
_FIELDS, _NESTED, _NESTED_ENUMS, _VALUES, _METHODS = 2, 3, 4, 2, 2

Json = dict[str, Any]
Path_ = tuple[int, ...]


class _File:
    """One file of the set, with its comments by place."""

    def __init__(self, file: FileDescriptorProto, homes: dict[str, str]) -> None:
        self.file = file
        self.homes = homes
        self.name = file.name.removeprefix(FOLDER).removesuffix(".proto")
        self._comments = {tuple(place.path): place.leading_comments for place in file.source_code_info.location}

    def comment(self, *path: int) -> str:
        """Return a comment, its paragraphs apart."""
        return "\n\n".join(" ".join(part.split()) for part in self._comments.get(path, "").strip().split("\n\n"))

    def document(self) -> Json:
        messages: list[Json] = []
        enums: list[Json] = []
        for index, message in enumerate(self.file.message_type):
            self._message(message, (_MESSAGES, index), "", messages, enums)
        for index, enum in enumerate(self.file.enum_type):
            enums.append(self._enum(enum, (_ENUMS, index), ""))
        return {
            "name": self.name,
            "comment": self.comment(_SYNTAX),
            "services": [self._service(service, index) for index, service in enumerate(self.file.service)],
            "messages": messages,
            "enums": enums,
        }

    def _service(self, service: ServiceDescriptorProto, index: int) -> Json:
        return {
            "name": service.name,
            "comment": self.comment(_SERVICES, index),
            "methods": [
                {
                    "name": method.name,
                    "comment": self.comment(_SERVICES, index, _METHODS, place),
                    "request": self._link(method.input_type),
                    "response": self._link(method.output_type),
                    "streams": method.server_streaming,
                    "callers": [
                        access_pb2.CallerKind.Name(kind).removeprefix("CALLER_KIND_").lower()
                        for kind in method.options.Extensions[access_pb2.access].allow
                    ],
                    "outside": method.options.Extensions[access_pb2.access].public_listener,
                }
                for place, method in enumerate(service.method)
            ],
        }

    def _message(
        self, message: DescriptorProto, path: Path_, outer: str, messages: list[Json], enums: list[Json]
    ) -> None:
        if message.options.map_entry:
            return
        name = outer + message.name
        maps = {f"{PACKAGE}{name}.{inner.name}": inner for inner in message.nested_type if inner.options.map_entry}
        messages.append(
            {
                "name": name,
                "comment": self.comment(*path),
                "fields": [
                    {
                        "name": field.name,
                        "number": field.number,
                        "type": self._type(field, maps),
                        "choice": _choice(message, field),
                        "comment": self.comment(*path, _FIELDS, index),
                    }
                    for index, field in enumerate(message.field)
                ],
            }
        )
        for index, inner in enumerate(message.nested_type):
            self._message(inner, (*path, _NESTED, index), f"{name}.", messages, enums)
        for index, enum in enumerate(message.enum_type):
            enums.append(self._enum(enum, (*path, _NESTED_ENUMS, index), f"{name}."))

    def _enum(self, enum: EnumDescriptorProto, path: Path_, outer: str) -> Json:
        return {
            "name": outer + enum.name,
            "comment": self.comment(*path),
            "values": [
                {
                    "name": value.name,
                    "number": value.number,
                    "comment": self.comment(*path, _VALUES, index),
                }
                for index, value in enumerate(enum.value)
            ],
        }

    def _type(self, field: FieldDescriptorProto, maps: dict[str, DescriptorProto]) -> Json:
        entry = maps.get(field.type_name)
        if entry is not None:
            value = self._type(entry.field[1], {})
            return {**value, "before": f"map<string, {value['before']}", "after": f"{value['after']}>"}
        repeated = "repeated " if field.label == FieldDescriptorProto.LABEL_REPEATED else ""
        optional = "optional " if field.proto3_optional else ""
        if field.type_name:
            return {"before": repeated + optional, **self._link(field.type_name), "after": ""}
        scalar = FieldDescriptorProto.Type.Name(field.type).removeprefix("TYPE_").lower()
        return {"before": repeated + optional, "name": scalar, "file": "", "after": ""}

    def _link(self, type_name: str) -> Json:
        """Return a type's name, and the file whose page tells of it; an empty one where none does."""
        return {"name": type_name.removeprefix(PACKAGE).removeprefix("."), "file": self.homes.get(type_name, "")}


def render(descriptors: FileDescriptorSet) -> Json:
    """Return the whole document. Raises ValueError where the set has no error table."""
    ours = [file for file in descriptors.file if file.name.startswith(FOLDER)]
    homes: dict[str, str] = {}
    for file in ours:
        name = file.name.removeprefix(FOLDER).removesuffix(".proto")
        if name not in PRIVATE:
            for message in file.message_type:
                homes |= dict.fromkeys(_names(message, PACKAGE), name)
            homes |= dict.fromkeys((PACKAGE + enum.name for enum in file.enum_type), name)
    files = {one.name: one for one in (_File(file, homes) for file in ours)}
    if "errors" not in files:
        raise ValueError("the descriptor set has no errors.proto")
    return {
        "errors": list(_errors(files["errors"])),
        "files": [file.document() for name, file in sorted(files.items()) if name not in PRIVATE],
    }


def _names(message: DescriptorProto, outer: str) -> Iterator[str]:
    yield outer + message.name
    for inner in message.nested_type:
        yield from _names(inner, f"{outer}{message.name}.")
    for enum in message.enum_type:
        yield f"{outer}{message.name}.{enum.name}"


def _choice(message: DescriptorProto, field: FieldDescriptorProto) -> str:
    """Return the name of the oneof that a field belongs to; empty where it belongs to none."""
    if not field.HasField("oneof_index") or field.proto3_optional:
        return ""
    return message.oneof_decl[field.oneof_index].name


def _errors(file: _File) -> Iterator[Json]:
    enums = {enum.name: (index, enum) for index, enum in enumerate(file.file.enum_type)}
    family_index, families = enums["ErrorFamily"]
    reason_index, reasons = enums["ErrorReason"]
    for place, family in enumerate(families.value):
        rows = [
            _row(value.options.Extensions[pb.error], file.comment(_ENUMS, reason_index, _VALUES, index))
            for index, value in enumerate(reasons.value)
            if value.number and value.options.Extensions[pb.error].family == family.number
        ]
        if rows:
            yield {
                "name": family.name.removeprefix("ERROR_FAMILY_").lower(),
                "title": file.comment(_ENUMS, family_index, _VALUES, place).rstrip("."),
                "rows": rows,
            }


def _row(spec: pb.ErrorSpec, comment: str) -> Json:
    status = pb.ErrorSpec.DESCRIPTOR.fields_by_name["grpc_status"].enum_type
    assert status is not None
    return {
        "code": spec.code,
        "comment": comment,
        "check_first": spec.check_first,
        "http_status": spec.http_status,
        "type": spec.type,
        "grpc_status": status.values_by_number[spec.grpc_status].name,
        "retryable": spec.retryable,
        "overrides": [
            {
                "surface": pb.Surface.Name(override.surface).removeprefix("SURFACE_").lower(),
                "http_status": override.http_status,
                "type": override.type,
                "code": override.code,
            }
            for override in spec.overrides
        ],
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the document, or with --check tell whether it is up to date; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail where it is not up to date")
    options = parser.parse_args(arguments)
    descriptors = FileDescriptorSet.FromString((ROOT / "proto" / "api.binpb").read_bytes())
    text = json.dumps(render(descriptors), indent=1, ensure_ascii=False) + "\n"
    if not options.check:
        TARGET.write_text(text, encoding="utf-8")
        return 0
    if TARGET.exists() and TARGET.read_text(encoding="utf-8") == text:
        return 0
    print(f"{TARGET} is not up to date; run tools/dev/gen_reference.py", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
