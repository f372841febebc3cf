"""Controlled issuance over every store: who asks, who decides, who reveals, and every way of cheating."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import access_pb2
from tokendance.gateway.v1 import quota_pb2 as q
from tokendance.ids import new_id
from tokendance_server.domain.audit.events import Origin
from tokendance_server.domain.audit.store import EventFilter
from tokendance_server.domain.clock import ManualClock
from tokendance_server.domain.keys.key import KeyDraft, KeyFilter, KeyQuota, KeyState, LimitRule
from tokendance_server.domain.keys.keys import Keys
from tokendance_server.domain.keys.life import KeyLife
from tokendance_server.domain.keys.request import KeyRequest, RequestState
from tokendance_server.domain.keys.requests import MOST_WAITING, REVEAL_S, KeyRequests, RequestQuery
from tokendance_server.domain.keys.secrets import PepperRing
from tokendance_server.domain.keys.verifier import Verifier
from tokendance_server.domain.names import child_name
from tokendance_server.domain.organizations import Member, MemberRole, MemberState, Organization, Organizations, Team
from tokendance_server.domain.people.records import IssuanceRule, Policy
from tokendance_server.domain.principals import Principal

START = datetime(2026, 6, 1, 12, tzinfo=UTC)
KINDS = {
    MemberRole.MEMBER: access_pb2.CALLER_KIND_MEMBER,
    MemberRole.ADMIN: access_pb2.CALLER_KIND_ORGANIZATION_ADMIN,
    MemberRole.AUDITOR: access_pb2.CALLER_KIND_AUDITOR,
}
OPERATOR = Principal(kinds=frozenset({access_pb2.CALLER_KIND_PLATFORM_ADMIN}), name="local-operator")
LIMIT = LimitRule(q.LIMIT_METRIC_REQUESTS, q.LIMIT_WINDOW_MINUTE, 60)


def who(member: Member) -> Principal:
    """The caller that a member is."""
    kinds = frozenset(KINDS[role] for role in member.roles)
    return Principal(kinds, member.name, organization=f"organizations/{member.organization_id}")


class Office:
    """An organization with two teams, two administrators, an auditor and two members, over the stores of the test."""

    def __init__(self, stores: Any) -> None:
        self.stores = stores
        self.clock = ManualClock(START)
        peppers = PepperRing.of(bytes(range(32)))
        organizations = Organizations(stores.organizations, self.clock)
        self.verifier = Verifier(stores.keys, peppers, self.clock, lambda: True)
        changed = self.verifier.forget
        self.requests = KeyRequests(stores.requests, peppers, self.clock, changed=changed)
        self.keys = Keys(stores.keys, organizations, peppers, self.clock, changed, policy=stores.people.policy)
        self.life = KeyLife(self.keys, stores.keys, organizations, peppers, self.clock, changed=changed)
        self.home = Organization(new_id("org"), "Home", START)
        self.team, self.other_team = (Team(self.home.id, new_id("team"), "T", START) for _ in range(2))
        self.asker, self.colleague = (self._member(MemberRole.MEMBER) for _ in range(2))
        self.admin, self.second_admin = (self._member(MemberRole.ADMIN) for _ in range(2))
        self.auditor = self._member(MemberRole.AUDITOR)

    def _member(self, role: MemberRole) -> Member:
        team_ids = (self.team.id,) if role is MemberRole.MEMBER else ()
        return Member(self.home.id, new_id("user"), "M", START, roles=(role,), team_ids=team_ids)

    async def open(self) -> Office:
        people = (self.asker, self.colleague, self.admin, self.second_admin, self.auditor)
        for record in (self.home, self.team, self.other_team, *people):
            await self.put(record)
        return self

    def draft(self, **changes: Any) -> KeyDraft:
        draft = KeyDraft(
            purpose="Reports",
            owner=self.asker.name,
            team=self.team.name,
            quota=KeyQuota(limits=(LIMIT,)),
            rotation_period_s=90 * 86_400,
            responsible=self.asker.name,
            allowed_models=("small",),
        )
        return replace(draft, **changes)

    async def ask(self, asker: Member | None = None, request_id: str = "", **changes: Any) -> KeyRequest:
        asker = asker or self.asker
        draft = self.draft(**{"owner": asker.name, **changes})
        return await self.requests.request(who(asker), self.home.name, draft, request_id)

    async def put(self, record: Any) -> None:
        async with self.stores.people.tenant(self.home.id) as tenant:
            await tenant.put(record, self.clock.now())

    async def set_policy(self, **values: Any) -> None:
        await self.put(Policy(self.home.id, **values))

    async def actions(self) -> list[str]:
        events = await self.stores.audit.chain(EventFilter(organization_id=self.home.id), 0, 100)
        return [event.action for event in events if event.action.startswith("key")]


@pytest.fixture
async def office(stores: Any) -> Office:
    """An office with nothing asked for."""
    return await Office(stores).open()


async def _code(asked: Awaitable[Any]) -> str:
    try:
        await asked
    except GatewayError as error:
        return f"{error.code} {error.param or ''}".strip()
    return "ok"


async def test_a_key_goes_from_the_asker_to_the_administrator_to_the_secret(office: Office) -> None:
    """It works from the reveal on, as it was granted, and every step is an event in the transaction of the step."""
    ends = START + timedelta(days=300)
    asked = await office.ask(expire_time=ends, labels={"ü": "%"}, allowed_networks=("10.0.0.0/8",))
    assert (asked.state, asked.requester, asked.key_id) == (RequestState.PENDING, office.asker.name, "")
    changed = replace(asked.draft, allowed_models=("small", "large"), purpose="Weekly reports")
    granted = await office.requests.approve(who(office.admin), asked.name, changed, reason="Fine", etag=asked.etag)
    assert (granted.state, granted.decided_by, granted.decision_reason) == (
        RequestState.APPROVED,
        office.admin.name,
        "Fine",
    )
    assert granted.draft == changed
    assert granted.reveal_expire_time == START + timedelta(seconds=REVEAL_S)
    pending = await office.stores.keys.get(granted.key_id)
    assert (pending.state, pending.secrets, pending.rotate_time) == (KeyState.PENDING, (), None)
    office.clock.advance(3600)
    key, secret = await office.requests.reveal(who(office.asker), asked.name)
    assert await office.stores.keys.get(granted.key_id) == key
    assert (key.state, key.purpose, key.allowed_models) == (KeyState.ACTIVE, "Weekly reports", ("small", "large"))
    assert (key.expire_time, key.rotate_time) == (ends, START + timedelta(hours=1))
    assert key.rotation.due_time == START + timedelta(hours=1, days=90)
    assert (await office.verifier.verify(secret)).name == key.name
    (listed,), _ = await office.requests.list(who(office.asker), RequestQuery(office.home.name))
    assert listed.state is RequestState.REVEALED
    assert await office.actions() == [
        *("key_request.create", "key_request.approve", "key.create", "key_request.reveal", "key.reveal")
    ]
    told = [change.name for change in await office.stores.changes.since(0, 100) if change.kind == "key"]
    assert told == [key.name, key.name]
    events = await office.stores.audit.chain(EventFilter(organization_id=office.home.id), 0, 100)
    assert secret not in str(events)


async def test_a_denied_request_says_why_and_stays_denied(office: Office) -> None:
    """A reason is required; nobody decides twice, and nothing can be revealed."""
    asked = await office.ask()
    admin = who(office.admin)
    assert await _code(office.requests.deny(admin, asked.name, " ")) == "invalid_request reason"
    denied = await office.requests.deny(admin, asked.name, "Use the team's key", etag=asked.etag)
    assert (denied.state, denied.decision_reason) == (RequestState.DENIED, "Use the team's key")
    for again in (
        office.requests.deny(admin, asked.name, "x"),
        office.requests.approve(admin, asked.name),
        office.requests.reveal(who(office.asker), asked.name),
    ):
        assert await _code(again) == "failed_precondition name"
    assert await office.actions() == ["key_request.create", "key_request.deny"]
    assert await office.stores.keys.list(KeyFilter(now=START), None, 10) == []


async def test_nobody_grants_its_own_request_unless_the_policy_says_so(office: Office) -> None:
    """Whatever else one is; a second administrator may."""
    asked = await office.ask(office.admin)
    both = replace(who(office.admin), kinds=frozenset({*who(office.admin).kinds, *OPERATOR.kinds}))
    for caller in (who(office.admin), both):
        assert await _code(office.requests.approve(caller, asked.name)) == "failed_precondition name"
    for caller in (who(office.asker), who(office.auditor)):
        assert await _code(office.requests.approve(caller, asked.name)) == "not_found name"
        assert await _code(office.requests.deny(caller, asked.name, "x")) == "not_found name"
    other = await office.ask(office.admin)
    assert await _code(office.requests.approve(who(office.second_admin), other.name)) == "ok"
    await office.set_policy(self_approval=True)
    assert await _code(office.requests.approve(who(office.admin), asked.name)) == "ok"


async def test_only_the_asker_reveals_and_only_once(office: Office) -> None:
    """Not the administrator who granted it, not a colleague, not the operator; and not a second time."""
    asked = await office.ask()
    assert await _code(office.requests.reveal(who(office.asker), asked.name)) == "failed_precondition name"
    await office.requests.approve(who(office.admin), asked.name)
    for caller, code in (
        (who(office.admin), "failed_precondition name"),
        (who(office.auditor), "failed_precondition name"),
        (OPERATOR, "failed_precondition name"),
        (who(office.colleague), "not_found name"),
        (replace(who(office.asker), organization=f"organizations/{new_id('org')}"), "not_found name"),
    ):
        assert await _code(office.requests.reveal(caller, asked.name)) == code
    assert await _code(office.requests.reveal(who(office.asker), asked.name)) == "ok"
    assert await _code(office.requests.reveal(who(office.asker), asked.name)) == "failed_precondition name"
    assert (await office.actions()).count("key.reveal") == 1


async def test_of_many_reveals_at_once_one_wins(office: Office) -> None:
    """One secret comes out, and it is the one that works."""
    asked = await office.ask()
    await office.requests.approve(who(office.admin), asked.name)

    async def reveal() -> str:
        try:
            return (await office.requests.reveal(who(office.asker), asked.name))[1]
        except GatewayError as error:
            return error.code

    results = await asyncio.gather(*(reveal() for _ in range(8)))
    (secret,) = [one for one in results if one.startswith("tdk_")]
    assert sorted(results) == [*["failed_precondition"] * 7, secret]
    assert await _code(office.verifier.verify(secret)) == "ok"
    assert (await office.actions()).count("key_request.reveal") == 1


async def test_of_many_decisions_at_once_one_counts(office: Office) -> None:
    """Granted or denied, never both, and at most one key."""
    asked = await office.ask()
    admins = (who(office.admin), who(office.second_admin))
    deciding = [office.requests.approve(one, asked.name) for one in admins]
    denying = [office.requests.deny(one, asked.name, "x") for one in admins]
    codes = await asyncio.gather(*(_code(one) for one in (*deciding, *denying)))
    assert sorted(codes) == [*["failed_precondition name"] * 3, "ok"]
    assert len(await office.stores.keys.list(KeyFilter(now=START), None, 10)) <= 1


async def test_a_late_reveal_is_refused_and_its_key_has_ended(office: Office) -> None:
    """To the second, by the policy's time; the key that nobody revealed does not wait for ever."""
    await office.set_policy(reveal_period_s=3600)
    asked = await office.ask()
    granted = await office.requests.approve(who(office.admin), asked.name)
    office.clock.advance(3600)
    assert await _code(office.requests.reveal(who(office.asker), asked.name)) == "failed_precondition name"
    key = await office.stores.keys.get(granted.key_id)
    assert key.state_at(office.clock.now()) is KeyState.EXPIRED
    for state, count in ((RequestState.EXPIRED, 1), (RequestState.APPROVED, 0)):
        found, _ = await office.requests.list(OPERATOR, RequestQuery("organizations/-", state=state))
        assert len(found) == count
    # Another life for the key is none for the request.
    longer = office.draft(expire_time=START + timedelta(days=30))
    await office.life.update(OPERATOR, key.name, longer, frozenset({"expire_time"}))
    assert await _code(office.requests.reveal(who(office.asker), asked.name)) == "failed_precondition name"


async def test_who_is_stopped_neither_asks_nor_reveals(office: Office) -> None:
    """Nor is a key granted to it; what was granted before is not revealed."""
    asked, granted = await office.ask(), await office.ask()
    await office.requests.approve(who(office.admin), granted.name)
    await office.put(replace(office.asker, state=MemberState.SUSPENDED, version=2))
    assert await _code(office.ask()) == "failed_precondition name"
    assert await _code(office.requests.approve(who(office.admin), asked.name)) == "failed_precondition name"
    assert await _code(office.requests.reveal(who(office.asker), granted.name)) == "failed_precondition name"
    await office.put(replace(office.asker, state=MemberState.ACTIVE, version=3))
    assert await _code(office.requests.reveal(who(office.asker), granted.name)) == "ok"


async def test_a_revoked_key_is_not_revealed(office: Office) -> None:
    """An administrator takes a grant back by revoking its key."""
    asked = await office.ask()
    granted = await office.requests.approve(who(office.admin), asked.name)
    await office.life.revoke(who(office.admin), child_name(office.home.id, "keys", granted.key_id))
    assert await _code(office.requests.reveal(who(office.asker), asked.name)) == "failed_precondition name"


async def test_members_ask_for_themselves_and_their_teams(office: Office) -> None:
    """What is missing is named; administrators may ask for others; who is no member asks for nothing."""
    assert await _code(office.ask(owner=office.colleague.name)) == "invalid_request key.owner"
    assert await _code(office.ask(team=office.other_team.name)) == "not_found key.team"
    assert await _code(office.ask(responsible=office.colleague.name)) == "ok"
    assert (await office.ask(owner="")).draft.owner == office.asker.name
    assert await _code(office.ask(office.admin, owner=office.colleague.name, team=office.other_team.name)) == "ok"
    required: dict[str, Any] = {"purpose": "", "team": "", "quota": KeyQuota(), "responsible": ""}
    for field, empty in required.items():
        param = {"responsible": "rotation.responsible"}.get(field, field)
        assert await _code(office.ask(**{field: empty})) == f"invalid_request key.{param}"
        asked = await office.ask()
        wanted = replace(asked.draft, **{field: empty})
        granting = office.requests.approve(who(office.admin), asked.name, wanted)
        assert await _code(granting) == f"invalid_request key.{param}"
    draft = office.draft()
    assert await _code(office.requests.request(OPERATOR, office.home.name, draft)) == "failed_precondition parent"
    abroad = f"organizations/{new_id('org')}"
    assert await _code(office.requests.request(who(office.asker), abroad, draft)) == "not_found parent"


async def test_a_request_id_asks_once_however_many_ask_at_once(office: Office) -> None:
    """Another draft under it is a conflict, and so is another asker."""
    asked = await asyncio.gather(*(office.ask(request_id="r") for _ in range(6)))
    assert len({one.id for one in asked}) == 1
    assert await _code(office.ask(request_id="r", purpose="Other")) == "idempotency_conflict request_id"
    assert await _code(office.ask(office.colleague, "r")) == "idempotency_conflict request_id"
    await office.requests.approve(who(office.admin), asked[0].name)
    assert (await office.ask(request_id="r")).state is RequestState.APPROVED
    assert await office.actions() == ["key_request.create", "key_request.approve", "key.create"]


async def test_a_policy_grants_what_is_inside_its_bounds(office: Office) -> None:
    """At once, and as the policy's own doing; what is outside waits for somebody."""
    rule = IssuanceRule("Small keys", (office.team.id,), ("small",), (LIMIT,), max_keys_per_member=2)
    await office.set_policy(issuance_rules=(rule,))
    asked = await office.requests.request(
        who(office.asker), office.home.name, office.draft(), origin=Origin(request_id="req_x")
    )
    assert (asked.state, asked.decided_by, asked.decision_reason) == (RequestState.APPROVED, "policy", "Small keys")
    events = await office.stores.audit.chain(EventFilter(organization_id=office.home.id), 0, 100)
    (decided,) = [event for event in events if event.action == "key_request.approve"]
    assert (decided.actor, decided.request_id) == (f"{office.home.name}/policy", "req_x")
    assert await _code(office.requests.reveal(who(office.asker), asked.name)) == "ok"
    assert (await office.ask(allowed_models=())).state is RequestState.PENDING
    # Granted and not yet revealed counts, or many could be granted before the first is.
    states = [one.state for one in await asyncio.gather(*(office.ask() for _ in range(4)))]
    assert states.count(RequestState.APPROVED) == 1


async def test_a_member_does_not_flood_the_desk(office: Office) -> None:
    """So many undecided ones, and no more, until some are decided."""
    asked = [await office.ask() for _ in range(MOST_WAITING)]
    assert await _code(office.ask()) == "failed_precondition parent"
    assert await _code(office.ask(office.colleague)) == "ok"
    await office.requests.deny(who(office.admin), asked[0].name, "x")
    assert await _code(office.ask()) == "ok"


async def test_lists_are_paged_and_hold_what_each_caller_may_see(office: Office) -> None:
    """Members their own, administrators and auditors all; a token serves who got it."""
    mine = [await office.ask() for _ in range(3)]
    theirs = await office.ask(office.colleague)
    query = RequestQuery("organizations/-", 2)
    page, token = await office.requests.list(who(office.asker), query)
    rest, end = await office.requests.list(who(office.asker), replace(query, page_token=token))
    assert [one.id for one in [*page, *rest]] == sorted((one.id for one in mine), reverse=True)
    assert end == ""
    for caller in (who(office.admin), who(office.auditor), OPERATOR):
        found, _ = await office.requests.list(caller, RequestQuery(office.home.name))
        assert {one.id for one in found} == {one.id for one in [*mine, theirs]}
        bad = office.requests.list(caller, replace(query, page_token=token))
        assert await _code(bad) == "invalid_request page_token"
    nobody = replace(who(office.asker), name="identities/x")
    assert await office.requests.list(nobody, query) == ([], "")
    stranger = replace(who(office.admin), organization=f"organizations/{new_id('org')}")
    assert await _code(office.requests.list(stranger, RequestQuery(office.home.name))) == "not_found parent"
    assert await office.requests.list(stranger, query) == ([], "")
    assert await _code(office.requests.approve(stranger, theirs.name)) == "not_found name"


async def test_a_stale_etag_decides_nothing(office: Office) -> None:
    """What was read must still be what is decided upon."""
    asked = await office.ask()
    for deciding in (
        office.requests.approve(who(office.admin), asked.name, etag='"9"'),
        office.requests.deny(who(office.admin), asked.name, "x", etag='"9"'),
    ):
        assert await _code(deciding) == "version_conflict etag"


async def test_no_key_lives_longer_than_the_policy_allows(office: Office) -> None:
    """Whether it is made, asked for, granted or changed; what is as it was before the policy stays."""
    old = (await office.keys.create(OPERATOR, office.home.name, office.draft()))[0]
    asked = await office.ask()
    day = 86_400
    await office.set_policy(max_rotation_period_s=30 * day, max_key_lifetime_s=60 * day)
    good = {"rotation_period_s": 30 * day, "expire_time": START + timedelta(days=60)}
    for changes, param in (
        ({**good, "rotation_period_s": 31 * day}, "key.rotation.period"),
        ({**good, "expire_time": START + timedelta(days=60, seconds=1)}, "key.expire_time"),
        ({**good, "expire_time": None}, "key.expire_time"),
    ):
        wanted = office.draft(**changes)
        for doing in (
            office.keys.create(OPERATOR, office.home.name, wanted),
            office.requests.request(who(office.asker), office.home.name, wanted),
            office.requests.approve(who(office.admin), asked.name, wanted),
            office.life.update(OPERATOR, old.name, wanted, frozenset(changes)),
        ):
            assert await _code(doing) == f"invalid_request {param}"
    # As it was asked for, before there was a policy.
    assert await _code(office.requests.approve(who(office.admin), asked.name)) == "invalid_request key.rotation.period"
    wanted = office.draft(**good)
    assert await _code(office.requests.approve(who(office.admin), asked.name, wanted)) == "ok"
    assert await _code(office.keys.create(OPERATOR, office.home.name, wanted)) == "ok"
    renamed = office.draft(purpose="New")
    assert await _code(office.life.update(OPERATOR, old.name, renamed, frozenset({"purpose"}))) == "ok"
