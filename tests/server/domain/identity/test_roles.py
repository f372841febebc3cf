"""What claims make of their bearer."""

from __future__ import annotations

from typing import Any

import pytest
from tests.server.domain.identity.issuer import ACME, GROUPS, SUBJECTS

from tokendance.errors import GatewayError
from tokendance_server.domain.identity.roles import KINDS, Grant, RoleMap, session_times

ROLES = RoleMap("groups", GROUPS, SUBJECTS)


@pytest.mark.parametrize(
    ("claims", "roles", "organization"),
    [
        ({"groups": ["admins"]}, {"platform_admin"}, ""),
        ({"groups": "admins"}, {"platform_admin"}, ""),
        ({"groups": ["acme", "x", 5, None]}, {"member"}, ACME),
        ({"groups": ["acme", "acme-leads"]}, {"member", "organization_admin"}, ACME),
        ({"groups": ["acme-leads", "other", "admins"]}, {"platform_admin"}, ""),
        ({"groups": ["auditors"]}, {"auditor"}, ""),
        ({"sub": "ci"}, {"service"}, ACME),
        ({"sub": "ci", "groups": ["acme"]}, {"service", "member"}, ACME),
    ],
)
def test_claims_make_a_caller(claims: dict[str, Any], roles: set[str], organization: str) -> None:
    """Of one scope, with every role in it; a platform administrator is nothing besides."""
    principal = ROLES.principal({"sub": "ada"} | claims)
    assert principal.kinds == {KINDS[role] for role in roles}
    assert principal.organization == organization
    assert not principal.key_id


@pytest.mark.parametrize(
    ("claims", "email", "told"),
    [
        ({"groups": []}, "", True),
        ({"groups": "x"}, "", True),
        ({}, "", False),
        ({"groups": None, "_claim_names": {"groups": "src1"}}, "", False),
        ({"email": "Ada@Example.com", "email_verified": True}, "ada@example.com", False),
        ({"email": "ada@example.com"}, "", False),
        ({"email": "ada@example.com", "email_verified": "true"}, "", False),
        ({"email": "ada@example.com", "email_verified": 1}, "", False),
        ({"email": ["ada@example.com"], "email_verified": True}, "", False),
        ({"email": "a" * 321, "email_verified": True}, "", False),
    ],
    ids=str,
)
def test_an_address_counts_where_it_was_verified(claims: dict[str, Any], email: str, told: bool) -> None:
    """By a plain true; and whether groups were spoken of is known."""
    person = ROLES.person({"sub": "ada"} | claims)
    assert (person.subject, person.email, person.told_groups) == ("ada", email, told)


@pytest.mark.parametrize(
    ("claims", "signed_in", "ends"),
    [
        ({"iat": 0, "exp": 60}, "1970-01-01T00:00:00+00:00", "1970-01-01T00:01:00+00:00"),
        ({"auth_time": 30, "iat": 60, "exp": 90}, "1970-01-01T00:00:30+00:00", "1970-01-01T00:01:30+00:00"),
        ({"auth_time": True, "iat": 1.5, "exp": 1e300}, "1970-01-01T00:00:01.500000+00:00", None),
        ({"auth_time": "now", "exp": float("nan")}, None, None),
        ({"auth_time": -1, "exp": -1}, None, None),
    ],
    ids=str,
)
def test_a_session_has_its_times(claims: dict[str, Any], signed_in: str | None, ends: str | None) -> None:
    """Those that make no sense are none."""
    told = [moment and moment.isoformat() for moment in session_times(claims)]
    assert told == [signed_in, ends]


@pytest.mark.parametrize(
    "claims",
    [
        {},
        {"groups": []},
        {"groups": ["Admins", "admins "]},
        {"groups": {"admins": True}},
        {"groups": [["admins"]]},
        {"groups": ["acme", "other"]},
        # An auditor of everything who leads one organization must not come to lead everything.
        {"groups": ["acme-leads", "auditors"]},
        {"sub": "CI"},
        {"roles": ["admins"]},
    ],
)
def test_no_role_and_two_scopes_are_refused(claims: dict[str, Any]) -> None:
    """The sign-in is good, and may do nothing."""
    with pytest.raises(GatewayError) as caught:
        ROLES.principal({"sub": "ada"} | claims)
    assert caught.value.code == "permission_denied"


def test_a_subject_is_a_name_of_one_segment() -> None:
    """Whatever an issuer calls people, it is no path of ours."""
    principal = ROLES.principal({"sub": "../organizations/x\n", "groups": ["admins"]})
    assert principal.name == "identities/..%2Forganizations%2Fx%0A"


@pytest.mark.parametrize(
    ("role", "organization"), [("platform_admin", ACME), ("member", ""), ("organization_admin", "")]
)
def test_roles_have_their_scope(role: Any, organization: str) -> None:
    """Others make no sense."""
    with pytest.raises(ValueError, match="organization"):
        Grant(role, organization)
