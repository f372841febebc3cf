"""Renders proto/errors.md, the public error page, from the comments and options of ErrorReason in proto/api.binpb."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from google.protobuf.descriptor_pb2 import (
    EnumDescriptorProto,
    EnumValueDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
)

from tokendance.gateway.v1 import errors_pb2 as pb

ROOT = Path(__file__).resolve().parents[2]
SOURCE = "tokendance/gateway/v1/errors.proto"
HEAD = """\
# Errors

<!-- Written by tools/dev/error_docs.py from errors.proto; change it there. -->

Every failed call carries a stable code, one sentence that says what to do, and a request id. Over REST they are in the
body, `{"error": {"message", "type", "param", "code", "request_id", "origin"}}`; the code is always also in the header
`x-tokendance-error-code` and the request id in `x-request-id`. Over gRPC they are in the `google.rpc.Status` details:
`ErrorInfo` with the code in capitals as `reason` and the domain `gateway.tokendance`, `RequestInfo`, `RetryInfo` and
`BadRequest`. Programs decide by the code; messages are for people and may change.

A retryable error may be cured by sending the same call again; its answer carries `Retry-After` where a time is known.
Every other answer carries `x-should-retry: false`, which the official SDKs obey.

For support have ready: the time, the HTTP status, the code, the request id and the model. Never send a key.
"""
# Numbers of fields in descriptor.proto, from which paths of source locations are made.
_ENUMS_OF_FILE = 5
_VALUES_OF_ENUM = 2


def render(descriptors: FileDescriptorSet) -> str:
    """Return the page. Raises ValueError where the set has no error table or a row has no comment."""
    file = next((file for file in descriptors.file if file.name == SOURCE), None)
    if file is None:
        raise ValueError(f"{SOURCE} is not in the descriptor set")
    comments = {tuple(place.path): place.leading_comments for place in file.source_code_info.location}
    families = _enum(file, "ErrorFamily")
    reasons = _enum(file, "ErrorReason")
    parts = [HEAD]
    for place, family in enumerate(families[1].value):
        rows = [
            (value, _comment(comments, reasons[0], index, value.name))
            for index, value in enumerate(reasons[1].value)
            if value.number and _spec(value).family == family.number
        ]
        if rows:
            parts.append(f"## {_comment(comments, families[0], place, family.name).rstrip('.')}\n")
            parts += [_section(value, comment) for value, comment in rows]
    return "\n".join(parts)


def _section(value: EnumValueDescriptorProto, comment: str) -> str:
    return "\n".join(_lines(_spec(value), comment))


def _lines(spec: pb.ErrorSpec, comment: str) -> Iterator[str]:
    status = pb.ErrorSpec.DESCRIPTOR.fields_by_name["grpc_status"].enum_type
    assert status is not None
    yield f"### `{spec.code}`\n"
    yield f"{comment}\n"
    yield f"- Check first: {spec.check_first}"
    yield f"- REST: {spec.http_status}, type `{spec.type}`"
    for override in spec.overrides:
        yield f"- On {_surface(override.surface)}: {', '.join(_differences(override))}"
    yield f"- gRPC: `{status.values_by_number[spec.grpc_status].name}`"
    yield f"- Retryable: {'yes' if spec.retryable else 'no'}\n"


def _differences(override: pb.SurfaceOverride) -> Iterator[str]:
    if override.http_status:
        yield str(override.http_status)
    if override.type:
        yield f"type `{override.type}`"
    if override.code:
        yield f"code `{override.code}` in the body"


def _surface(surface: pb.Surface.ValueType) -> str:
    return pb.Surface.Name(surface).removeprefix("SURFACE_").lower()


def _spec(value: EnumValueDescriptorProto) -> pb.ErrorSpec:
    return value.options.Extensions[pb.error]


def _enum(file: FileDescriptorProto, name: str) -> tuple[int, EnumDescriptorProto]:
    for index, enum in enumerate(file.enum_type):
        if enum.name == name:
            return index, enum
    raise ValueError(f"{SOURCE} has no enum {name}")


def _comment(comments: dict[tuple[int, ...], str], enum: int, value: int, name: str) -> str:
    comment = comments.get((_ENUMS_OF_FILE, enum, _VALUES_OF_ENUM, value), "")
    if not comment.strip():
        raise ValueError(f"{name} has no comment")
    return " ".join(comment.split())


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the page, or with --check tell whether it is up to date; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail where the page is not up to date")
    parser.add_argument("--root", type=Path, default=ROOT, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    page = options.root / "proto" / "errors.md"
    try:
        text = render(FileDescriptorSet.FromString((options.root / "proto" / "api.binpb").read_bytes()))
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    if not options.check:
        page.write_text(text, encoding="utf-8")
        return 0
    if page.exists() and page.read_text(encoding="utf-8") == text:
        return 0
    print(f"{page} is not up to date; run tools/dev/error_docs.py", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
