"""Requests and answers of the administration as JSON: the standard mapping of protobuf, with its field names kept."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl

import orjson
from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import errors_pb2
from tokendance_facade.admin.bindings import Binding
from tokendance_facade.dialects.documents import Document, read_object

_MASK = FieldMask.DESCRIPTOR.full_name
# What the parser says may repeat what was sent, so only so much of it is repeated to the caller.
_MAX_COMPLAINT = 300
_MAX_QUERY_FIELDS = 200
# Of a resource in the body of an update: its name is in the path, and the etag guards the update.
_NEVER_UPDATED = frozenset({"name", "etag"})


def request_class(binding: Binding) -> type[Message]:
    """Return the class of an RPC's request."""
    return GetMessageClass(binding.method.input_type)


def response_class(binding: Binding) -> type[Message]:
    """Return the class of an RPC's response, or of one message of its stream."""
    return GetMessageClass(binding.method.output_type)


def read_request(binding: Binding, values: Mapping[str, str], query: str, body: bytes) -> Message:
    """Return the request that a path's variables, a query string and a body make.

    The path wins over the body, and the query fills only what is in neither. An update without `update_mask` changes
    the fields that its body names. Raises invalid_json, and invalid_request that names the field.
    """
    document = _read_query(binding, query)
    mask = _take_mask(binding, document)
    sent = read_object(body) if binding.body and body.strip() else {}
    if body.strip() and not binding.body:
        raise _invalid("This call takes no body; its fields go into the path and the query string.", None)
    if binding.body == "*":
        document |= sent
    elif binding.body:
        document[binding.body] = sent
        mask = mask or _fields_of(binding, sent)
    for name, value in values.items():
        _put(document, name.split("."), value)
    request = request_class(binding)()
    try:
        json_format.ParseDict(document, request)
    except (json_format.ParseError, RecursionError, ValueError) as exc:
        complaint = "".join(one if one.isprintable() else " " for one in str(exc))[:_MAX_COMPLAINT]
        raise _invalid(f"The request does not fit the form of {binding.method.name}: {complaint}", None) from None
    if mask:
        request.update_mask.paths.extend(mask)  # type: ignore[attr-defined] # known to be a field mask
    return request


def write_answer(answer: Message) -> bytes:
    """Return an answer as a JSON object; fields that say nothing are there with their defaults."""
    return orjson.dumps(
        json_format.MessageToDict(answer, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)
    )


def _read_query(binding: Binding, query: str) -> Document:
    document: Document = {}
    try:
        pairs = parse_qsl(
            query, keep_blank_values=True, strict_parsing=bool(query), errors="strict", max_num_fields=_MAX_QUERY_FIELDS
        )
    except ValueError:
        raise _invalid("The query string is malformed or has too many fields.", None) from None
    filled = {binding.body} if binding.body else set()
    for name, text in pairs:
        path = name.split(".")
        if binding.body == "*" or path[0] in filled or name in binding.variables:
            raise _invalid("This field goes into the body or the path, not into the query string.", name)
        field, rest = _field(binding.method.input_type, path, name)
        _add(document, path, field, _scalar(field, text) if not rest else text)
    return document


def _field(descriptor: Descriptor, path: list[str], name: str) -> tuple[FieldDescriptor, list[str]]:
    """Return the field that a dotted path names, and what is left of the path where the field is a map."""
    field = None
    for place, part in enumerate(path):
        field = descriptor.fields_by_name.get(part)
        if field is None:
            raise _invalid("There is no such field.", name)
        rest = path[place + 1 :]
        if _is_map(field):
            if len(rest) != 1:
                raise _invalid("Write one entry as name.key=value.", name)
            return field, rest
        if rest:
            if field.message_type is None or field.is_repeated:
                raise _invalid("There is no such field.", name)
            descriptor = field.message_type
    assert field is not None
    return field, []


def _is_map(field: FieldDescriptor) -> bool:
    return field.message_type is not None and field.message_type.GetOptions().map_entry


def _scalar(field: FieldDescriptor, text: str) -> str | bool:
    if field.type != FieldDescriptor.TYPE_BOOL:
        return text
    if text not in {"true", "false"}:
        raise _invalid("This field is `true` or `false`.", field.name)
    return text == "true"


def _add(document: Document, path: list[str], field: FieldDescriptor, value: str | bool) -> None:
    place = _place(document, path)
    if field.is_repeated and not _is_map(field):
        place.setdefault(path[-1], []).append(value)
    elif path[-1] in place:
        raise _invalid("This field came twice.", ".".join(path))
    else:
        place[path[-1]] = value


def _put(document: Document, path: list[str], value: str) -> None:
    place = _place(document, path)
    place[path[-1]] = value


def _place(document: Document, path: list[str]) -> Document:
    for part in path[:-1]:
        inner = document.setdefault(part, {})
        if type(inner) is not dict:
            raise _invalid("This field is an object.", part)
        document = inner
    return document


def _take_mask(binding: Binding, document: Document) -> list[str]:
    """Take the field mask out of the query: it is written with the names that fields have here."""
    field = binding.method.input_type.fields_by_name.get("update_mask")
    if field is None or field.message_type is None or field.message_type.full_name != _MASK:
        return []
    return [path for path in str(document.pop("update_mask", "")).split(",") if path]


def _fields_of(binding: Binding, sent: Mapping[str, Any]) -> list[str]:
    if "update_mask" not in binding.method.input_type.fields_by_name:
        return []
    return [name for name in sent if name not in _NEVER_UPDATED]


def _invalid(message: str, param: str | None) -> GatewayError:
    shown = None if param is None else param[:64]
    return GatewayError(errors_pb2.ERROR_REASON_INVALID_REQUEST, message, param=shown, origin="caller")
