"""Everything that is done with organizations, teams and members, wired over one store."""

from __future__ import annotations

from dataclasses import dataclass

from tokendance_server.domain.clock import Clock
from tokendance_server.domain.keys.secrets import PepperRing
from tokendance_server.domain.keys.verifier import Verifier
from tokendance_server.domain.page_tokens import PageTokens
from tokendance_server.domain.people.erasure import Erasure, Listeners, Pseudonyms
from tokendance_server.domain.people.members import MemberLife
from tokendance_server.domain.people.organizations import OrganizationLife
from tokendance_server.domain.people.policies import Policies, PreferenceDesk
from tokendance_server.domain.people.rules import Paging
from tokendance_server.domain.people.store import PeopleStore
from tokendance_server.domain.people.teams import TeamLife


@dataclass(frozen=True, slots=True)
class People:
    """What is done with organizations, their teams, members and policies, and with callers' preferences."""

    organizations: OrganizationLife
    teams: TeamLife
    members: MemberLife
    policies: Policies
    preferences: PreferenceDesk
    erasure: Erasure


def build_people(
    store: PeopleStore, peppers: PepperRing, clock: Clock, verifier: Verifier, usage: Pseudonyms
) -> People:
    """Wire it all: what stops keys is told to the verifier of this node at once."""
    paging = Paging(PageTokens(peppers.derive("page tokens of people")))
    return People(
        OrganizationLife(store, clock, paging, verifier.forget_organization),
        TeamLife(store, clock, paging),
        MemberLife(store, clock, paging, verifier.forget),
        Policies(store, clock),
        PreferenceDesk(store),
        Erasure(store, usage, clock, Listeners(verifier.forget, verifier.forget_organization)),
    )
