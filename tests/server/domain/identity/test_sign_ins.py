"""Who comes in: by groups, by invitation, or not any more."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from tests.pseudonyms import NamedAnew
from tests.server.domain.identity.issuer import NOW

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import access_pb2
from tokendance.ids import new_id
from tokendance_server.domain.changes import Change
from tokendance_server.domain.clock import ManualClock
from tokendance_server.domain.identity.arrivals import IDENTITY_PROVIDER, Arrivals
from tokendance_server.domain.identity.roles import Grant, Person, principal_of
from tokendance_server.domain.identity.sign_ins import SignIns
from tokendance_server.domain.keys.key import KeyDraft, KeyQuota, KeyState
from tokendance_server.domain.keys.keys import Keys
from tokendance_server.domain.keys.secrets import PepperRing
from tokendance_server.domain.keys.verifier import Verifier
from tokendance_server.domain.organizations import (
    Member,
    MemberRole,
    MemberState,
    Organization,
    Organizations,
    OrganizationState,
    Team,
)
from tokendance_server.domain.people.desk import build_people
from tokendance_server.stores.memory import MemoryChangeFeed, MemoryKeyStore, MemoryOrganizationStore
from tokendance_server.stores.memory_audit import MemoryAuditStore
from tokendance_server.stores.memory_directory import MemoryDirectory
from tokendance_server.stores.memory_people import MemoryPeopleStore

MEMBER, ADMIN = access_pb2.CALLER_KIND_MEMBER, access_pb2.CALLER_KIND_ORGANIZATION_ADMIN


class Directory(MemoryDirectory):
    """Counts who asks it; `meanwhile` runs during a read, once."""

    def __init__(self, records: MemoryOrganizationStore) -> None:
        super().__init__(records)
        self.asked = 0
        self.meanwhile: Any = None

    async def find_members(self, subject: str, email: str) -> list[Member]:
        self.asked += 1
        found = await super().find_members(subject, email)
        if self.meanwhile is not None:
            meanwhile, self.meanwhile = self.meanwhile, None
            await meanwhile()
        return found


class Town:
    """One organization in memory, and the door to it."""

    def __init__(self, *, governed: bool = False) -> None:
        self.clock = ManualClock(NOW)
        self.changes, self.records = MemoryChangeFeed(), MemoryOrganizationStore()
        self.keys_kept = MemoryKeyStore(self.changes, MemoryAuditStore())
        store = MemoryPeopleStore(self.records, self.keys_kept)
        peppers = PepperRing.of(bytes(range(32)))
        verifier = Verifier(self.keys_kept, peppers, self.clock, lambda: True)
        self.organizations = Organizations(self.records, self.clock)
        self.people = build_people(store, peppers, self.clock, verifier, NamedAnew())
        self.keys = Keys(self.keys_kept, self.organizations, peppers, self.clock, verifier.forget)
        self.reported: list[tuple[str, str]] = []
        arrivals = Arrivals(
            store, self.people.members, self.clock, lambda name, error: self.reported.append((name, error.code))
        )
        self.home = Organization(new_id("org"), "Home", NOW)
        self.directory = Directory(self.records)
        self.sighted = True
        self.door = SignIns(
            self.directory,
            self.clock,
            governed={self.home.name} if governed else (),
            works=self.organizations.works,
            sighted=lambda: self.sighted,
            activate=arrivals.activate,
            stop=arrivals.stop,
        )

    async def open(self) -> Town:
        await self.records.add(self.home)
        return self

    async def member(self, organization: Organization | None = None, **values: Any) -> Member:
        made = Member((organization or self.home).id, new_id("user"), "x", NOW, **values)
        await self.records.add_member(made)
        self.tell()
        return made

    async def now(self, member: Member) -> Member:
        found = await self.records.get_member(member.organization_id, member.id)
        assert found is not None
        return found

    def tell(self) -> None:
        """Let the feed tell that some member changed."""
        self.door.changed(Change(1, "member", "organizations/x/members/y", "x", NOW))

    async def code(self, person: Person) -> str:
        try:
            await self.door.principal(person)
        except GatewayError as error:
            return error.metadata.get("member_state", error.code)
        return "ok"

    def granted(self, *roles: Any, subject: str = "ada", email: str = "") -> Person:
        return Person(subject, email, frozenset(Grant(role, self.home.name) for role in roles))


ADA = Person("ada", "", frozenset())


@pytest.fixture
async def town() -> Town:
    """An organization whose members are told by their records."""
    return await Town().open()


@pytest.fixture
async def governed() -> Town:
    """An organization whose members are told by groups."""
    return await Town(governed=True).open()


async def test_an_invited_subject_becomes_active(town: Town) -> None:
    """With the roles of the record, under the member's own name; the second call changes nothing more."""
    invited = await town.member(subject="ada", roles=(MemberRole.MEMBER, MemberRole.ADMIN))
    for _ in range(2):
        principal = await town.door.principal(ADA)
        assert (principal.name, principal.organization) == (invited.name, town.home.name)
        assert principal.kinds == {MEMBER, ADMIN}
        came = await town.now(invited)
        assert (came.state, came.subject, came.version) == (MemberState.ACTIVE, "ada", 2)


async def test_an_invited_address_takes_the_subject(town: Town) -> None:
    """In any case; afterwards only the subject counts."""
    invited = await town.member(email="Ada@Example.com")
    assert (await town.door.principal(Person("ada", "ada@example.com", frozenset()))).name == invited.name
    came = await town.now(invited)
    assert (came.state, came.subject) == (MemberState.ACTIVE, "ada")
    assert await town.code(Person("eve", "ada@example.com", frozenset())) == "permission_denied"
    assert await town.code(ADA) == "ok"


@pytest.mark.parametrize("email", ["", "ada@example.com.evil", "eve@example.com"])
async def test_another_address_opens_nothing(town: Town, email: str) -> None:
    """Nor does none: an empty address is not that of members without one."""
    await town.member(email="ada@example.com")
    await town.member(email="")
    assert await town.code(Person("eve", email, frozenset())) == "permission_denied"


@pytest.mark.parametrize("state", [MemberState.SUSPENDED, MemberState.REMOVED])
@pytest.mark.parametrize("role", [None, "member", "organization_admin"])
async def test_who_is_stopped_or_out_comes_in_by_no_group(town: Town, state: MemberState, role: Any) -> None:
    """The record's word is the last; it says which."""
    await town.member(subject="ada", state=state)
    assert await town.code(town.granted(*([role] if role else []))) == state.value


async def test_somebody_who_was_out_may_be_invited_anew(town: Town) -> None:
    """The new record counts."""
    await town.member(subject="ada", state=MemberState.REMOVED)
    again = await town.member(subject="ada")
    assert (await town.door.principal(ADA)).name == again.name


async def test_groups_alone_still_make_a_caller(town: Town) -> None:
    """Somebody without a record has the roles of their groups, and no member's name."""
    principal = await town.door.principal(town.granted("organization_admin"))
    assert (principal.name, principal.kinds) == ("identities/ada", frozenset({ADMIN}))


async def test_roles_of_groups_and_record_add_up(town: Town) -> None:
    """Both were given by somebody who may."""
    member = await town.member(subject="ada", state=MemberState.ACTIVE)
    principal = await town.door.principal(town.granted("auditor"))
    assert (principal.name, principal.kinds) == (
        member.name,
        frozenset({MEMBER, access_pb2.CALLER_KIND_AUDITOR}),
    )


async def test_no_organization_stops_an_administrator_of_the_platform(town: Town) -> None:
    """Else any of them could."""
    await town.member(subject="ada", state=MemberState.SUSPENDED)
    principal = await town.door.principal(Person("ada", "", frozenset({Grant("platform_admin")})))
    assert principal.kinds == {access_pb2.CALLER_KIND_PLATFORM_ADMIN}
    assert town.directory.asked == 0


async def test_members_of_two_organizations_have_no_scope(town: Town) -> None:
    """Unless a group says which."""
    other = Organization(new_id("org"), "Other", NOW)
    await town.records.add(other)
    await town.member(subject="ada", state=MemberState.ACTIVE)
    await town.member(other, subject="ada", state=MemberState.ACTIVE)
    assert await town.code(ADA) == "permission_denied"
    assert (await town.door.principal(town.granted("member"))).organization == town.home.name


@pytest.mark.parametrize("invited", [{"email": "ada@example.com"}, {"subject": "ada"}])
async def test_an_invitation_elsewhere_shuts_nobody_out(town: Town, invited: dict[str, str]) -> None:
    """Any organization may send one; who is a member already stays where they are."""
    member = await town.member(subject="ada", state=MemberState.ACTIVE)
    other = Organization(new_id("org"), "Other", NOW)
    await town.records.add(other)
    waiting = await town.member(other, **invited)
    principal = await town.door.principal(Person("ada", "ada@example.com", frozenset()))
    assert principal.name == member.name
    assert (await town.now(waiting)).state is MemberState.INVITED


@pytest.mark.parametrize("role", [None, "organization_admin"])
async def test_a_suspended_organization_lets_nobody_in(town: Town, role: Any) -> None:
    """Its members' sessions end, whatever their role in it."""
    await town.member(subject="ada", state=MemberState.ACTIVE)
    person = town.granted(*([role] if role else []))
    assert await town.code(person) == "ok"
    await town.people.organizations.set_state(IDENTITY_PROVIDER, town.home.name, OrganizationState.SUSPENDED)
    town.tell()
    assert await town.code(person) == "permission_denied"


async def test_records_are_remembered_until_one_changes(town: Town) -> None:
    """A hundred calls, one read; the change is seen by the next call."""
    member = await town.member(subject="ada", state=MemberState.ACTIVE)
    await town.people.members.create(IDENTITY_PROVIDER, town.home.name, _draft("boss"))
    for _ in range(100):
        assert await town.code(ADA) == "ok"
    assert town.directory.asked == 1
    await town.people.members.suspend(IDENTITY_PROVIDER, member.name)
    assert await town.code(ADA) == "ok"
    town.tell()
    assert await town.code(ADA) == "suspended"
    await town.people.members.resume(IDENTITY_PROVIDER, member.name)
    town.tell()
    assert await town.code(ADA) == "ok"


async def test_a_change_during_a_read_is_not_forgotten(town: Town) -> None:
    """What the read brought is of before the change, so it is read again."""
    member = await town.member(subject="ada", state=MemberState.ACTIVE)
    await town.people.members.create(IDENTITY_PROVIDER, town.home.name, _draft("boss"))

    async def suspend() -> None:
        await town.people.members.suspend(IDENTITY_PROVIDER, member.name)
        town.tell()

    town.directory.meanwhile = suspend
    assert await town.code(ADA) == "suspended"


async def test_without_sight_of_changes_nothing_is_believed_from_memory(town: Town) -> None:
    """Every call reads the records."""
    member = await town.member(subject="ada", state=MemberState.ACTIVE)
    assert await town.code(ADA) == "ok"
    town.sighted = False
    await town.people.members.create(IDENTITY_PROVIDER, town.home.name, _draft("boss"))
    await town.people.members.suspend(IDENTITY_PROVIDER, member.name)
    assert await town.code(ADA) == "suspended"


async def test_what_is_remembered_ends(town: Town) -> None:
    """After a minute, should a change ever not be told."""
    await town.member(subject="ada", state=MemberState.ACTIVE)
    assert await town.code(ADA) == "ok"
    town.clock.advance(61)
    assert await town.code(ADA) == "ok"
    assert town.directory.asked == 2


async def test_who_is_in_no_group_any_more_is_suspended_with_their_keys(governed: Town) -> None:
    """By the policy of the organization; coming back takes an administrator."""
    await governed.member(subject="boss", roles=(MemberRole.ADMIN,), state=MemberState.ACTIVE)
    member = await governed.member(subject="ada", state=MemberState.ACTIVE)
    team = Team(governed.home.id, new_id("team"), "x", NOW)
    await governed.records.add_team(team)
    draft = KeyDraft("x", member.name, team.name, KeyQuota(governed.home.name), 86_400, member.name)
    key, _ = await governed.keys.create(IDENTITY_PROVIDER, governed.home.name, draft)
    assert await governed.code(governed.granted("member")) == "ok"
    assert await governed.code(ADA) == "permission_denied"
    assert (await governed.now(member)).state is MemberState.SUSPENDED
    (kept,) = [one for one in governed.keys_kept.all_keys() if one.id == key.id]
    assert kept.state_at(NOW + timedelta(seconds=1)) is KeyState.SUSPENDED
    assert await governed.code(governed.granted("member")) == "suspended"


async def test_a_token_that_speaks_of_no_groups_is_refused_and_stops_nobody(governed: Town) -> None:
    """It may be one for fewer scopes, or of a provider that leaves out what is too long."""
    member = await governed.member(subject="ada", state=MemberState.ACTIVE)
    assert await governed.code(Person("ada", "", frozenset(), told_groups=False)) == "permission_denied"
    assert (await governed.now(member)).state is MemberState.ACTIVE


async def test_the_last_administrator_is_refused_and_reported(governed: Town) -> None:
    """The organization would be without one; the token signs nobody in all the same."""
    boss = await governed.member(subject="ada", roles=(MemberRole.ADMIN,), state=MemberState.ACTIVE)
    assert await governed.code(ADA) == "permission_denied"
    assert (await governed.now(boss)).state is MemberState.ACTIVE
    assert governed.reported == [(boss.name, "failed_precondition")]


@pytest.mark.parametrize("email", ["", "ada@example.com"])
async def test_an_invitation_alone_opens_no_organization_of_groups(governed: Town, email: str) -> None:
    """And who has yet to come is not stopped for it."""
    invited = await governed.member(subject="" if email else "ada", email=email)
    assert await governed.code(Person("ada", email, frozenset())) == "permission_denied"
    assert (await governed.now(invited)).state is MemberState.INVITED
    assert await governed.code(governed.granted("member", email=email)) == "ok"
    assert (await governed.now(invited)).state is MemberState.ACTIVE


async def test_an_invitation_that_was_taken_back_meanwhile_opens_nothing(town: Town) -> None:
    """The record is looked at once more in the transaction that changes it."""
    invited = await town.member(subject="ada")

    async def remove() -> None:
        await town.people.members.delete(IDENTITY_PROVIDER, invited.name)

    town.directory.meanwhile = remove
    assert await town.code(ADA) == "permission_denied"
    assert (await town.now(invited)).state is MemberState.REMOVED


async def test_two_invitations_of_one_person_do_not_both_open(town: Town) -> None:
    """A subject is one member of an organization: the one that it was first."""
    member = await town.member(subject="ada", state=MemberState.ACTIVE)
    by_address = await town.member(email="ada@example.com")
    for person in (Person("ada", "ada@example.com", frozenset()), town.granted("member", email="ada@example.com")):
        assert (await town.door.principal(person)).name == member.name
    assert (await town.now(by_address)).state is MemberState.INVITED


async def test_an_invitation_gives_no_subject_to_two(town: Town) -> None:
    """Also where the record of the subject came while the address was looked up."""
    by_address = await town.member(email="ada@example.com")

    async def meanwhile() -> None:
        await town.records.add_member(Member(town.home.id, new_id("user"), "x", NOW, subject="ada"))

    town.directory.meanwhile = meanwhile
    assert await town.code(Person("ada", "ada@example.com", frozenset())) == "permission_denied"
    assert (await town.now(by_address)).subject == ""


@pytest.mark.parametrize(
    ("state", "code"),
    [
        (MemberState.INVITED, "ok"),
        (MemberState.ACTIVE, "ok"),
        (MemberState.SUSPENDED, "suspended"),
        (MemberState.REMOVED, "removed"),
    ],
)
async def test_a_named_member_must_work(town: Town, state: MemberState, code: str) -> None:
    """As the development issuer names them."""
    member = await town.member(state=state)
    principal = principal_of("developer", [Grant("member", town.home.name)], member.name)
    if code == "ok":
        assert await town.door.vouch(principal) is principal
        return
    with pytest.raises(GatewayError) as caught:
        await town.door.vouch(principal)
    assert caught.value.metadata["member_state"] == code


async def test_a_named_organization_must_work(town: Town) -> None:
    """The platform's own callers name none."""
    nobody = principal_of("developer", [Grant("platform_admin")])
    assert await town.door.vouch(nobody) is nobody
    lost = principal_of("developer", [Grant("organization_admin", f"organizations/{new_id('org')}")])
    with pytest.raises(GatewayError, match="suspended, or there is none"):
        await town.door.vouch(lost)


def _draft(subject: str) -> Any:
    from tokendance_server.domain.people.records import MemberDraft

    return MemberDraft(subject=subject, roles=(MemberRole.ADMIN,))
