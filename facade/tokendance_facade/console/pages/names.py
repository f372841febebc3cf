"""What teams, members and keys of an organization are called: lists show names, not ids."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tokendance.gateway.v1 import keys_service_pb2, organizations_service_pb2
from tokendance_facade.console.views import Cell, Option
from tokendance_facade.console.visit import Visit
from tokendance_facade.console.words import NOTHING, id_of

_PAGE = 1000


class Names:
    """Names by resource name, as far as the person may see them: at most a thousand of each kind."""

    def __init__(self, known: Mapping[str, str], teams: Sequence[Option], members: Sequence[Option]) -> None:
        self._known = known
        self.teams = teams
        """The teams as choices."""
        self.members = members
        """The members as choices."""

    def of(self, name: str) -> str:
        """Return what somebody or something is called, or its id."""
        return self._known.get(name) or id_of(name)

    def cell(self, name: str, base: str = "") -> Cell:
        """Return the name with a link to where it is shown, for those that have a page of their own."""
        if not name:
            return Cell(NOTHING)
        kind = name.split("/")[2:3]
        href = f"{base}/{kind[0]}/{id_of(name)}" if base and kind in (["keys"], ["members"]) else ""
        return Cell(self.of(name), href=href)


async def read_names(visit: Visit, *, keys: bool = False) -> Names:
    """Return the names of the visit's organization; of keys too where asked for."""
    parent = visit.organization
    known: dict[str, str] = {}
    teams = await _list(
        visit, visit.stubs.organizations.ListTeams, organizations_service_pb2.ListTeamsRequest(parent=parent), "teams"
    )
    members = await _list(
        visit,
        visit.stubs.organizations.ListMembers,
        organizations_service_pb2.ListMembersRequest(parent=parent),
        "members",
    )
    known |= {one.name: one.display_name for one in teams}
    known |= {one.name: member_label(one) for one in members}
    if keys:
        found = await _list(visit, visit.stubs.keys.ListKeys, keys_service_pb2.ListKeysRequest(parent=parent), "keys")
        known |= {one.name: one.purpose for one in found}
    return Names(
        known, [(one.name, one.display_name) for one in teams], [(one.name, member_label(one)) for one in members]
    )


def member_label(member: Any) -> str:
    """Return what a member is called."""
    return str(member.display_name or member.email or member.subject or id_of(member.name))


async def _list(visit: Visit, rpc: Any, request: Any, field: str) -> list[Any]:
    request.page_size = _PAGE
    answer = await visit.try_call(rpc, request)
    return [] if answer is None else list(getattr(answer, field))
