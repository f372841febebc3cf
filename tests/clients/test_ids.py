"""Ids: what they look like, and that they sort by time."""

from __future__ import annotations

import os
import re

from tokendance.ids import encode_uuid7, new_id


def test_an_id_names_its_kind_and_is_unique() -> None:
    """Prefix, underscore, 26 characters without i, l, o and u."""
    ids = [new_id("req") for _ in range(1000)]
    assert len(set(ids)) == 1000
    assert all(re.fullmatch(r"req_[0-9a-hjkmnp-tv-z]{26}", one) for one in ids)


def test_ids_sort_by_time() -> None:
    """A later millisecond is a greater id, whatever the random bits."""
    assert encode_uuid7(1, (1 << 80) - 1) < encode_uuid7(2, 0)


def test_the_number_is_a_uuid_of_version_7() -> None:
    """Milliseconds, version and variant are where RFC 9562 puts them."""
    number = 0
    for digit in encode_uuid7(0x0123456789AB, 0):
        number = number << 5 | "0123456789abcdefghjkmnpqrstvwxyz".index(digit)
    assert number >> 80 == 0x0123456789AB
    assert number >> 76 & 0xF == 7
    assert number >> 62 & 0b11 == 0b10


def test_a_child_of_a_fork_mints_other_ids() -> None:
    """Randomness that was at hand is the parent's alone."""
    new_id("req")
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writer, "".join(new_id("req")[-12:] for _ in range(300)).encode())
        os._exit(0)
    os.waitpid(child, 0)
    told = os.read(reader, 65536).decode()
    os.close(reader)
    os.close(writer)
    theirs = {told[at : at + 12] for at in range(0, len(told), 12)}
    assert len(theirs) == 300
    assert theirs.isdisjoint(new_id("req")[-12:] for _ in range(300))
