"""How many fields a message on the wire makes, told before it is read: two bytes can ask for a hundred in memory."""

from __future__ import annotations

from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import errors_pb2

MOST_FIELDS = 250_000
"""The most fields that one message may have, inner ones and single numbers of packed lists included."""
NEVER_HEAVY_BYTES = MOST_FIELDS
"""A message of so few bytes is read unseen: it cannot take more than some twenty megabytes."""

# A field's number -> the fields inside it, or None for a packed list. What is neither is one field, however long.
_Table = dict[int, "_Table | None"]
_Waiting = tuple[_Table, tuple[int, int]]

_PACKED = frozenset(
    {
        FieldDescriptor.CPPTYPE_INT32, FieldDescriptor.CPPTYPE_INT64, FieldDescriptor.CPPTYPE_UINT32,
        FieldDescriptor.CPPTYPE_UINT64, FieldDescriptor.CPPTYPE_DOUBLE, FieldDescriptor.CPPTYPE_FLOAT,
        FieldDescriptor.CPPTYPE_BOOL, FieldDescriptor.CPPTYPE_ENUM,
    }
)  # fmt: skip


class WireWeight:
    """Knows the fields of one type of message. `is_heavy` tells of its bytes whether they hold too many."""

    def __init__(self, kind: type[Message]) -> None:
        self._table = _table_of(kind.DESCRIPTOR, {})

    def is_heavy(self, data: bytes) -> bool:
        """Tell whether a message has more than MOST_FIELDS. What is malformed is counted as far as it goes."""
        if len(data) <= NEVER_HEAVY_BYTES:
            return False
        waiting: list[_Waiting] = [(self._table, (0, len(data)))]
        left = MOST_FIELDS
        while waiting and left >= 0:
            table, span = waiting.pop()
            try:
                left = _count(data, span, table, waiting, left)
            except IndexError:  # cut short: whoever reads it stops there too
                continue
        return left < 0


def too_many_fields() -> GatewayError:
    """Return the refusal of a message that is heavy."""
    return GatewayError(
        errors_pb2.ERROR_REASON_INVALID_REQUEST,
        f"The message has too many fields; at most {MOST_FIELDS:,} are served, inner ones included.",
        metadata={"max_fields": str(MOST_FIELDS)},
        origin="caller",
    )


def _count(data: bytes, span: tuple[int, int], table: _Table, waiting: list[_Waiting], left: int) -> int:
    """Walk over the fields of one message; returns how many of `left` remain, and adds messages in it to `waiting`."""
    at, end = span
    while at < end and left >= 0:
        left -= 1
        tag = data[at]
        at += 1
        if tag > 127:
            tag, at = _varint(data, at - 1)
        wire = tag & 7
        if wire == 2:
            size = data[at]
            at += 1
            if size > 127:
                size, at = _varint(data, at - 1)
            number, stop = tag >> 3, at + size
            if stop > end:
                break
            if number in table:
                inner = table[number]
                if inner is None:
                    left -= size
                elif size:
                    waiting.append((inner, (at, stop)))
            at = stop
        elif wire == 0:
            _, at = _varint(data, at)
        elif wire in (1, 5):
            at += 8 if wire == 1 else 4
        # Groups have no length: what is inside them is counted as if it stood beside them.
    return left


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = data[at]
    at += 1
    if value < 128:
        return value, at
    value &= 127
    shift = 7
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7
        if shift > 63:
            raise IndexError


def _table_of(descriptor: Any, known: dict[str, _Table]) -> _Table:
    """Return the fields of a message that hold more than one value; messages may hold themselves."""
    table = known.get(descriptor.full_name)
    if table is None:
        table = known[descriptor.full_name] = {}
        for field in descriptor.fields:
            if field.message_type is not None:
                table[field.number] = _table_of(field.message_type, known)
            elif field.cpp_type in _PACKED:
                table[field.number] = None
    return table
