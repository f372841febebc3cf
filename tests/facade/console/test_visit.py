"""Who somebody is in the console, and how young their sign-in must be."""

from __future__ import annotations

from typing import Any

import pytest

from tokendance.gateway.v1 import facade_service_pb2, organization_pb2
from tokendance_facade.console.forms import Values
from tokendance_facade.console.visit import MANAGERS, MEMBER, PLATFORM, FreshSignInNeededError, Visit

SIGNED_IN_S = 1_790_000_000
MEMBER_NAME = f"organizations/org_{'1' * 26}/members/user_{'2' * 26}"


def visit(*, name: str = MEMBER_NAME, later_s: float = 0, path: dict[str, str] | None = None, zone: str = "") -> Visit:
    """Return a visit of a member, so many seconds after they signed in."""
    session = facade_service_pb2.Session(caller=organization_pb2.Caller(name=name, kinds=[MEMBER]), form_key=bytes(32))
    session.sign_in_time.FromSeconds(SIGNED_IN_S)
    nothing: Any = None
    return Visit(
        exchange=nothing,
        calls=nothing,
        stubs=nothing,
        session=session,
        access_token="canary",
        caller=organization_pb2.Caller(name=name, preferences=organization_pb2.Preferences(time_zone=zone)),
        fresh_s=900,
        timeout_s=30,
        path=path or {},
        query=Values(),
        now=lambda: SIGNED_IN_S + later_s,
    )


def test_a_sign_in_is_fresh_for_so_long() -> None:
    """Then what matters asks for another one."""
    visit(later_s=900).require_fresh()
    with pytest.raises(FreshSignInNeededError):
        visit(later_s=900.1).require_fresh()


def test_people_are_at_home_in_their_organization() -> None:
    """And stand in the one that the path names."""
    assert visit().base == f"/console/org_{'1' * 26}"
    assert visit(path={"organization": f"org_{'3' * 26}"}).base == f"/console/org_{'3' * 26}"
    assert visit(name="identities/ada").home == ""
    assert visit().is_any(frozenset({MEMBER}))
    assert not visit().is_any(MANAGERS | PLATFORM)


@pytest.mark.parametrize(
    ("zone", "shown"),
    [("", "UTC"), ("Europe/Berlin", "Europe/Berlin"), ("../etc", "UTC"), ("No/Where", "UTC")],
)
def test_times_are_in_the_persons_zone(zone: str, shown: str) -> None:
    """One that this machine does not know is UTC, which the page says."""
    assert str(visit(zone=zone).zone) == shown


def test_nothing_of_the_token_is_shown() -> None:
    """Where a visit is printed, as in a traceback."""
    assert "canary" not in repr(visit())
    assert "form_key" not in repr(visit())
