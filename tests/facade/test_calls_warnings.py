"""Warnings in a header: every field is named, or how many are not."""

from __future__ import annotations

from tokendance.gateway.v1 import completion_pb2 as pb
from tokendance_facade.handlers.calls import warning_headers


def told(count: int, why: str = "This model has no place for it.") -> str:
    """Return the header of so many warnings."""
    ((name, value),) = warning_headers([pb.Warning(field=f"field_{number}", why=why) for number in range(count)])
    assert name == "x-tokendance-warnings"
    assert len(value) <= 4096
    return value


def test_few_are_told_with_their_reasons() -> None:
    """Whole sentences, in order."""
    assert told(2, "No.") == "field_0: No.; field_1: No."
    assert warning_headers([]) == ()


def test_of_many_every_field_is_named() -> None:
    """64 are the most that an answer has; each is found, though not each with its reason."""
    value = told(64, "x" * 120)
    assert all(f"field_{number}" in value.replace(":", ";") for number in range(64))
    assert value.startswith("field_0: xxx")


def test_what_has_no_room_is_counted() -> None:
    """Names that are very long end with how many are missing."""
    warnings = [pb.Warning(field=f"{number}" + "y" * 250, why="No.") for number in range(64)]
    ((_, value),) = warning_headers(warnings)
    assert len(value) <= 4096
    last = value.rpartition("; ")[2]
    assert last == f"and {64 - value.count('; ')} more"


def test_no_character_breaks_the_header() -> None:
    """Line ends and what is not ASCII become question marks."""
    ((_, value),) = warning_headers([pb.Warning(field="a\r\nb", why="é")])
    assert value == "a??b: ?"
