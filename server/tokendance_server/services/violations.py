"""The rules of the schema, and a broken one of them, told as the gateway tells every error."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from google.protobuf.message import Message

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import errors_pb2

if TYPE_CHECKING:
    import protovalidate


class Validator(Protocol):
    """Holds messages to the rules of the schema."""

    def collect_violations(self, message: Message) -> Sequence[protovalidate.Violation]:
        """Return what a message breaks."""


class LateValidator:
    """Loads what validates with the first message that it gets: a tenth of a node's memory, and of its start.

    The model calls of the facade, which are most calls of most nodes, never need it.
    """

    def __init__(self) -> None:
        self._validator: Validator | None = None

    def collect_violations(self, message: Message) -> Sequence[protovalidate.Violation]:
        """See Validator."""
        if self._validator is None:
            import protovalidate

            self._validator = protovalidate.Validator()
        return self._validator.collect_violations(message)


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
