"""What an answer's account becomes in headers: whatever a label holds, a header stays one."""

from __future__ import annotations

from tokendance.gateway.v1 import completion_pb2 as pb
from tokendance_facade.accounts import account_headers


def test_degradation_is_told_in_headers() -> None:
    """Who served, after how many failures, and which model stood in."""
    account = pb.CallAccount(served_by="Label", retries=2, fallback_model="large")
    assert account_headers(account) == (
        ("x-tokendance-served-by", "Label"),
        ("x-tokendance-retries", "2"),
        ("x-tokendance-fallback", "large"),
    )


def test_an_answer_of_the_first_route_says_nothing_of_the_kind() -> None:
    """Absent, not 0."""
    assert account_headers(pb.CallAccount(served_by="Label")) == (("x-tokendance-served-by", "Label"),)


def test_names_cannot_make_headers_of_their_own() -> None:
    """Line ends and what is not ASCII are replaced."""
    account = pb.CallAccount(fallback_model="a\r\nset-cookie: b\u00e9")
    assert account_headers(account) == (("x-tokendance-fallback", "a??set-cookie: b?"),)
