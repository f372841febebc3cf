"""What each role sees and changes: the one place that decides it, for every resource of an organization."""

from __future__ import annotations

from tokendance.gateway.v1 import access_pb2
from tokendance_server.domain.names import organization_name
from tokendance_server.domain.principals import Principal

_ADMIN = access_pb2.CALLER_KIND_ORGANIZATION_ADMIN
_AUDITOR = access_pb2.CALLER_KIND_AUDITOR


def is_platform_admin(caller: Principal) -> bool:
    """Tell whether a caller sees and changes everything."""
    return access_pb2.CALLER_KIND_PLATFORM_ADMIN in caller.kinds


def in_scope(caller: Principal, organization_id: str) -> bool:
    """Tell whether a caller sees an organization at all: platform administrators every one, others their own."""
    return is_platform_admin(caller) or (
        bool(organization_id) and caller.organization == organization_name(organization_id)
    )


def reads_all(caller: Principal, organization_id: str) -> bool:
    """Tell whether a caller sees everything of an organization: its administrators and its auditors do."""
    return in_scope(caller, organization_id) and (
        is_platform_admin(caller) or not caller.kinds.isdisjoint({_ADMIN, _AUDITOR})
    )


def changes_all(caller: Principal, organization_id: str) -> bool:
    """Tell whether a caller may change everything of an organization: its administrators may."""
    return in_scope(caller, organization_id) and (is_platform_admin(caller) or _ADMIN in caller.kinds)


def member_id(caller: Principal) -> str:
    """Return the id of the member that a caller is, or an empty text for who is no member."""
    prefix = f"{caller.organization}/members/"
    return caller.name.removeprefix(prefix) if caller.organization and caller.name.startswith(prefix) else ""
