"""How much work a message on the wire makes, told before it is read: two bytes can ask for a hundred in memory."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import errors_pb2
from tokendance.json_weight import MAX_WEIGHT, Weight, most

MOST_FIELDS = 100_000
"""The most fields that one message may have, inner ones included: 10,000 turns of one short text have 50,000."""
MOST_NUMBER_BYTES = 4 * 1024 * 1024
"""The most bytes of packed lists of numbers, each of which takes up to eight times as much in memory."""
NEVER_HEAVY_BYTES = 2 * MOST_FIELDS
"""A message of so few bytes is read unseen: it cannot take more than some ten megabytes."""

# Weighed at once, so that what is far too heavy is not weighed to its end.
_PIECE_BYTES = 64 * 1024

_PACKED = frozenset(
    {
        FieldDescriptor.CPPTYPE_INT32, FieldDescriptor.CPPTYPE_INT64, FieldDescriptor.CPPTYPE_UINT32,
        FieldDescriptor.CPPTYPE_UINT64, FieldDescriptor.CPPTYPE_DOUBLE, FieldDescriptor.CPPTYPE_FLOAT,
        FieldDescriptor.CPPTYPE_BOOL, FieldDescriptor.CPPTYPE_ENUM,
    }
)  # fmt: skip


class _Kind(enum.Enum):
    NUMBERS = enum.auto()
    JSON = enum.auto()


# A field's number -> the fields inside it, or what it holds. What is in no table is one field, however long.
_Table = dict[int, "_Table | _Kind"]


class WireWeight:
    """Knows the fields of one type of message. `is_heavy` tells of its bytes whether they hold too much."""

    def __init__(self, kind: type[Message]) -> None:
        self._table = _table_of(kind.DESCRIPTOR, {})

    def is_heavy(self, data: bytes) -> bool:
        """Tell whether a message has more than MOST_FIELDS, or JSON in it that weighs more than MAX_WEIGHT altogether.

        What is malformed is counted as far as it goes.
        """
        return len(data) > NEVER_HEAVY_BYTES and _Walk(data, self._table).is_heavy()


def too_heavy() -> GatewayError:
    """Return the refusal of a message that is heavy."""
    return GatewayError(
        errors_pb2.ERROR_REASON_INVALID_REQUEST,
        f"The message holds too much: at most {MOST_FIELDS:,} fields are served, inner ones included, and "
        f"{MAX_WEIGHT:,} JSON values, where each text counts one more, and each name, array and object two.",
        metadata={"max_fields": str(MOST_FIELDS), "max_json_values": str(MAX_WEIGHT)},
        origin="caller",
    )


class _Walk:
    """One message on its way, in the order in which it will be read. `_left` is how many fields it may still have."""

    def __init__(self, data: bytes, table: _Table) -> None:
        self._data = data
        self._table = table
        self._texts: list[tuple[int, int]] = []
        self._left = MOST_FIELDS
        self._number_bytes = 0

    def is_heavy(self) -> bool:
        """Walk over all of it, and weigh the JSON that was met."""
        # Cut short or malformed, it ends there: so will whoever reads it.
        with suppress(IndexError):
            self._count(self._table, 0, len(self._data))
        return self._left < 0 or self._number_bytes > MOST_NUMBER_BYTES or self._is_json_heavy()

    def _count(self, table: _Table, at: int, end: int) -> None:
        """Count the fields of one message and of those inside it. Raises IndexError where it is malformed."""
        data = self._data
        outer: list[tuple[_Table, int]] = []
        while self._left >= 0:
            if at >= end:
                if not outer:
                    return
                table, end = outer.pop()
                continue
            self._left -= 1
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
                stop = at + size
                if stop > end:
                    raise IndexError
                inner = table.get(tag >> 3)
                if isinstance(inner, dict):
                    outer.append((table, end))
                    table, end = inner, stop
                    continue
                if inner is _Kind.NUMBERS:
                    self._number_bytes += size
                elif inner is _Kind.JSON:
                    self._texts.append((at, stop))
                at = stop
            elif wire == 0:
                _, at = _varint(data, at)
            elif wire in (1, 5):
                at += 8 if wire == 1 else 4
            # Groups have no length: what is inside them is counted as if it stood beside them.

    def _is_json_heavy(self) -> bool:
        highest = 0
        for piece in self._pieces():
            highest += most(piece)
            if highest > MAX_WEIGHT:
                break
        else:
            return False
        left = MAX_WEIGHT
        for at, stop in self._texts:
            weight = Weight()
            for start in range(at, stop, _PIECE_BYTES):
                weight.add(self._data[start : min(start + _PIECE_BYTES, stop)])
                if weight.total > left:
                    return True
            left -= weight.total
        return False

    def _pieces(self) -> Iterator[bytes]:
        for at, stop in self._texts:
            for start in range(at, stop, _PIECE_BYTES):
                yield self._data[start : min(start + _PIECE_BYTES, stop)]


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
    """Return the fields of a message that may hold more than one value; messages may hold themselves."""
    table = known.get(descriptor.full_name)
    if table is None:
        table = known[descriptor.full_name] = {}
        for field in descriptor.fields:
            if field.message_type is not None:
                table[field.number] = _table_of(field.message_type, known)
            elif field.cpp_type in _PACKED:
                table[field.number] = _Kind.NUMBERS
            elif field.name == "json" or field.name.endswith("_json"):
                table[field.number] = _Kind.JSON
    return table
