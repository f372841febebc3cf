"""A broken rule of the schema, told as the gateway tells every error."""

from __future__ import annotations

import protovalidate

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import errors_pb2


def invalid(violation: protovalidate.Violation) -> GatewayError:
    """Return invalid_request with the field's path as `param`, such as `completion.messages[0].role`."""
    proto = violation.proto
    path = ".".join(_name(element) for element in proto.field.elements) if proto.field else ""
    return GatewayError(
        errors_pb2.ERROR_REASON_INVALID_REQUEST,
        f"{path or 'The request'}: {proto.message or proto.rule_id}.",
        param=path or None,
        metadata={"rule": proto.rule_id},
        origin="caller",
    )


def _name(element: protovalidate.FieldPathElementPb) -> str:
    subscript = element.subscript
    return element.field_name if subscript is None else f"{element.field_name}[{subscript.value}]"
