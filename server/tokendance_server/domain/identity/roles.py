"""From the claims of a token that was found good to the caller: by configuration alone, and never by guessing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal
from urllib.parse import quote

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import access_pb2, errors_pb2
from tokendance.gateway.v1.access_pb2 import CallerKind
from tokendance_server.domain.principals import Principal

Role = Literal["platform_admin", "organization_admin", "member", "auditor", "service"]
Claims = Mapping[str, Any]

KINDS: Mapping[str, CallerKind.ValueType] = {
    "platform_admin": access_pb2.CALLER_KIND_PLATFORM_ADMIN,
    "organization_admin": access_pb2.CALLER_KIND_ORGANIZATION_ADMIN,
    "member": access_pb2.CALLER_KIND_MEMBER,
    "auditor": access_pb2.CALLER_KIND_AUDITOR,
    "service": access_pb2.CALLER_KIND_SERVICE,
}
"""The kind of caller that each role is, by the role's name."""
PEOPLE = frozenset(KINDS.values())
"""Who comes with a token of an identity provider: people, and machines that stand for themselves."""

_MOST_GROUPS = 1000
_MOST_EMAIL = 320
# Later than any token lasts, and early enough for every calendar.
_LATEST = 1e11


@dataclass(frozen=True, slots=True)
class Grant:
    """One role. `organization` is `organizations/{o}`, or empty for a role on the whole platform.

    Raises ValueError where the role and the organization do not go together.
    """

    role: Role
    organization: str = ""

    def __post_init__(self) -> None:
        """Refuse administrators of the platform within an organization, and its own people without one."""
        if self.role == "platform_admin" and self.organization:
            raise ValueError("a platform_admin has no organization: the role is on the whole platform")
        if self.role in ("organization_admin", "member") and not self.organization:
            raise ValueError(f"the role {self.role} needs an organization")


@dataclass(frozen=True, slots=True)
class Person:
    """Who a good token says its bearer is: a person, or a machine that stands for itself.

    `email` is one that the issuer has verified, in folded case, or empty. `told_groups` is whether the token speaks of
    groups at all: one that does not, such as one for fewer scopes, says nothing of who is in none.
    """

    subject: str
    email: str
    grants: frozenset[Grant]
    told_groups: bool = True
    sign_in_time: datetime | None = None
    expire_time: datetime | None = None


class RoleMap:
    """Roles by configuration: `groups` are the values of the claim `claim` that carry one, `subjects` the machines.

    A claim is one text or a list of texts. A subject that is mapped has its own roles and those of its groups.
    """

    def __init__(
        self, claim: str, groups: Mapping[str, Iterable[Grant]], subjects: Mapping[str, Iterable[Grant]]
    ) -> None:
        self._claim = claim
        self._groups = {name: tuple(grants) for name, grants in groups.items()}
        self._subjects = {name: tuple(grants) for name, grants in subjects.items()}
        self.organizations = frozenset(
            grant.organization for grants in self._groups.values() for grant in grants if grant.organization
        )
        """Organizations whose people are told by groups: who is in none of them is none of theirs."""

    def person(self, claims: Claims) -> Person:
        """Return whom these claims speak of, with the roles that they carry."""
        found = set(self._subjects.get(claims["sub"], ()))
        for group in _texts(claims.get(self._claim)):
            found.update(self._groups.get(group, ()))
        email = claims.get("email")
        # Anything but a plain true is an address that somebody may have made up.
        verified = isinstance(email, str) and claims.get("email_verified") is True and len(email) <= _MOST_EMAIL
        address = str(email).casefold() if verified else ""
        told_groups = isinstance(claims.get(self._claim), (str, list))
        signed_in, ends = session_times(claims)
        return Person(claims["sub"], address, frozenset(found), told_groups, signed_in, ends)

    def principal(self, claims: Claims) -> Principal:
        """Return the caller that these claims make. Raises permission_denied where they carry no role, or too many."""
        person = self.person(claims)
        return principal_of(person.subject, person.grants)


def principal_of(subject: str, grants: Iterable[Grant], member: str = "") -> Principal:
    """Return the caller with these roles. A platform administrator is nothing besides: the role includes every other.

    `member` is the resource name of the member that the subject is, where that is known.
    Raises permission_denied where there is no role, and where roles of two scopes would become one caller's.
    """
    roles = set(grants)
    name = member or f"identities/{quote(subject, safe='')}"
    if not roles:
        raise denied("Your sign-in is good, but none of your groups has a role here; ask a platform administrator.")
    if any(grant.role == "platform_admin" for grant in roles):
        return Principal(kinds=frozenset({access_pb2.CALLER_KIND_PLATFORM_ADMIN}), name=name)
    organizations = {grant.organization for grant in roles}
    if len(organizations) > 1:
        # One caller has one scope: the kinds of one must never count in the other.
        raise denied("Your groups give you roles in more than one organization; ask for an account in one of them.")
    (organization,) = organizations
    return Principal(kinds=frozenset(KINDS[grant.role] for grant in roles), name=name, organization=organization)


def session_times(claims: Claims) -> tuple[datetime | None, datetime | None]:
    """Return when the bearer of a token signed in, or when it was issued where it does not tell, and when it ends."""
    return _moment(claims.get("auth_time")) or _moment(claims.get("iat")), _moment(claims.get("exp"))


def _moment(value: object) -> datetime | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < _LATEST:
        return None
    return datetime.fromtimestamp(value, UTC)


def _texts(claim: object) -> Iterable[str]:
    if isinstance(claim, str):
        return (claim,)
    if isinstance(claim, list):
        return (one for one in claim[:_MOST_GROUPS] if isinstance(one, str))
    return ()


def denied(message: str) -> GatewayError:
    """Return the error for somebody who has signed in and may do nothing here."""
    return GatewayError(errors_pb2.ERROR_REASON_PERMISSION_DENIED, message, origin="caller")
