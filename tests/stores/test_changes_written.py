"""Every method of the stores that writes, and the changes that it records in its own transaction."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
from sqlalchemy import select
from tests.stores.conftest import Stores, sql_stores
from tests.stores.records import keep
from tests.stores.test_catalogue import MODEL, PROVIDER, put
from tests.stores.test_keys import DAY, MARK, NOW, Tenant

from tokendance.ids import new_id
from tokendance_server.domain.catalogue.entries import CatalogueStore, Edit, EntryKind
from tokendance_server.domain.keys.key import Key
from tokendance_server.domain.keys.last_use import UseStore
from tokendance_server.domain.keys.request_store import KeyRequestStore, RequestDesk
from tokendance_server.domain.keys.store import KeyStore
from tokendance_server.domain.organizations import Member, Organization, OrganizationStore, Team
from tokendance_server.domain.people.records import KeyFate, Policy
from tokendance_server.domain.people.store import PeopleStore, Record
from tokendance_server.domain.people.store import Tenant as OpenTenant
from tokendance_server.stores.errors import StoreUnavailableError
from tokendance_server.stores.sql.database import ConflictError, Database
from tokendance_server.stores.sql.tables import changes, metadata

LATER = NOW + DAY
_LAST_NUMBER = 2**63 - 1

Act = Callable[[], Awaitable[object]]


class House:
    """A tenant with one key, a provider and a model, over the stores of a test."""

    def __init__(self, stores: Stores) -> None:
        self.stores = stores
        self.tenant = Tenant()
        self.key: Key

    async def open(self) -> House:
        await self.tenant.open(self.stores)
        self.key = self.tenant.key()
        await self.stores.keys.add(self.key, "", MARK)
        await self.stores.catalogue.edit(lambda _: put(EntryKind.PROVIDER, "a", PROVIDER))
        await self.stores.catalogue.edit(lambda _: put(EntryKind.MODEL, "fast", MODEL))
        return self

    async def within(self, act: Callable[[OpenTenant], Awaitable[object]]) -> None:
        """Act in a transaction on the tenant."""
        async with self.stores.people.tenant(self.tenant.organization) as opened:
            await act(opened)

    async def at_desk(self, act: Callable[[RequestDesk], Awaitable[object]]) -> None:
        """Act in a transaction on the tenant's requests for keys."""
        async with self.stores.requests.desk(self.tenant.organization) as desk:
            await act(desk)

    @property
    def organization(self) -> Organization:
        return Organization(self.tenant.organization, "Changed", NOW, update_time=LATER, version=2)

    @property
    def team(self) -> Team:
        return Team(self.tenant.organization, self.tenant.teams[0], "Changed", NOW)

    @property
    def empty_team(self) -> Team:
        return Team(self.tenant.organization, self.tenant.teams[1], "x", NOW)

    @property
    def member(self) -> Member:
        return Member(self.tenant.organization, self.tenant.members[0], "Changed", NOW)

    @property
    def policy(self) -> Policy:
        return Policy(self.tenant.organization, update_time=LATER)


@dataclass(frozen=True)
class Write:
    """One use of a method that writes: what is done in a house, and what changes by it, as `kind name`."""

    method: str
    act: Callable[[House], Act]
    told: Callable[[House], list[str]]


def _put(record: Callable[[House], Record], kind: str) -> Write:
    return Write(
        "Tenant.put",
        lambda house: lambda: house.within(lambda tenant: tenant.put(record(house), LATER)),
        lambda house: [f"{kind} {record(house).name}"],
    )


def _settle(fate: KeyFate) -> Write:
    def act(house: House) -> Act:
        owner, other = house.tenant.members
        return lambda: house.within(lambda tenant: tenant.settle_keys(owner, fate, other, LATER))

    return Write("Tenant.settle_keys", act, lambda house: [f"key {house.key.name}"])


def _edit(edit: Edit) -> Write:
    kind = {EntryKind.PROVIDER: "provider", EntryKind.MODEL: "model"}[edit.kind]
    return Write(
        "CatalogueStore.edit",
        lambda house: lambda: house.stores.catalogue.edit(lambda _: edit),
        lambda _: [f"{kind} {edit.resource_name}"],
    )


WRITES = {
    "a key is made": Write(
        "KeyStore.add",
        lambda house: lambda: house.stores.keys.add(replace(house.key, id="key_new", secrets=()), "", MARK),
        lambda house: [f"key organizations/{house.tenant.organization}/keys/key_new"],
    ),
    "a key is changed": Write(
        "KeyStore.replace",
        lambda house: lambda: house.stores.keys.replace(house.key, replace(house.key, purpose="y", version=2)),
        lambda house: [f"key {house.key.name}"],
    ),
    "a key is granted": Write(
        "RequestDesk.put_key",
        lambda house: lambda: house.at_desk(lambda desk: desk.put_key(replace(house.key, purpose="y", version=2))),
        lambda house: [f"key {house.key.name}"],
    ),
    "an organization is put": _put(lambda house: house.organization, "organization"),
    "a team is put": _put(lambda house: house.team, "team"),
    "a member is put": _put(lambda house: house.member, "member"),
    "a policy is put": _put(lambda house: house.policy, "policy"),
    "a team is deleted": Write(
        "Tenant.delete_team",
        lambda house: lambda: house.within(lambda tenant: tenant.delete_team(house.empty_team, LATER)),
        lambda house: [f"team {house.empty_team.name}"],
    ),
    **{f"a member's keys are settled: {fate}": _settle(fate) for fate in KeyFate},
    "a provider is made": _edit(put(EntryKind.PROVIDER, "b", PROVIDER)),
    "a provider is changed": _edit(put(EntryKind.PROVIDER, "a", replace(PROVIDER, public_label="New"))),
    "a model's routes are changed": _edit(put(EntryKind.MODEL, "fast", replace(MODEL, routes=MODEL.routes[:1]))),
    "a model is deleted": _edit(Edit(EntryKind.MODEL, "fast", LATER, None)),
}

READS = {
    *(f"KeyStore.{name}" for name in ("get", "find", "list", "made_by", "rotation_of")),
    *(f"OrganizationStore.{name}" for name in ("get", "get_team", "get_member")),
    "CatalogueStore.load",
    *(
        f"PeopleStore.{name}"
        for name in ("find_team", "organizations", "teams", "members", "policy", "count_members", "count_keys")
    ),
    "PeopleStore.preferences",
    *(
        f"Tenant.{name}"
        for name in ("organization", "team", "member", "policy", "team_named", "member_with", "other_admins")
    ),
    *(f"Tenant.{name}" for name in ("team_in_use", "made_by", "members", "teams", "traces")),
    *(f"RequestDesk.{name}" for name in ("policy", "member", "team", "request", "key", "made_by", "undecided")),
    "RequestDesk.owned_keys",
    "KeyRequestStore.page",
}
UNTOLD = {
    "OrganizationStore.add_first": "only on an empty database: it has a test of its own",
    "PeopleStore.tenant": "opens the transaction in which the methods of Tenant write",
    "PeopleStore.set_preferences": "what a person likes to see is read anew each time, and kept in memory by nobody",
    "KeyRequestStore.desk": "opens the transaction in which the methods of RequestDesk write",
    "RequestDesk.put": "a request is read anew each time; the key that comes of it is told",
    "RequestDesk.mark_made": "kept beside a `put`, for a repeat of the same call",
    "RequestDesk.record": "the audit trail is kept in memory by nobody",
    "UseStore.mark_used": "nothing is decided by the time of last use, which would be told every minute for every key",
    "UseStore.redigest": "a key is found by either digest, and what it may do stays the same",
    "Tenant.mark_made": "kept beside a `put`, for a repeat of the same request",
    "Tenant.deny_requests": "a request is read anew each time",
    "Tenant.forget": "goes with a `put` of whom it is about, which is told, and with keys that end",
    "Tenant.tell": "the audit trail is kept in memory by nobody",
}


def test_every_method_of_the_stores_is_known_here() -> None:
    """A new one is a read, a write with its changes, or says why it records none."""
    protocols = {"KeyStore": KeyStore, "OrganizationStore": OrganizationStore, "CatalogueStore": CatalogueStore}
    protocols |= {"PeopleStore": PeopleStore, "Tenant": OpenTenant, "UseStore": UseStore}
    protocols |= {"KeyRequestStore": KeyRequestStore, "RequestDesk": RequestDesk}
    methods = {
        f"{name}.{method}"
        for name, protocol in protocols.items()
        for method, found in vars(protocol).items()
        if inspect.isfunction(found) and not method.startswith("_")
    }
    assert methods == READS | UNTOLD.keys() | {write.method for write in WRITES.values()}


@pytest.mark.parametrize("name", WRITES)
async def test_a_write_records_what_it_changes(stores: Any, name: str) -> None:
    """One row for each thing, under its kind and its name, of the organization that it belongs to."""
    house = await House(stores).open()
    before = await stores.changes.latest()
    await WRITES[name].act(house)()
    told = await stores.changes.since(before.number, 10)
    assert [f"{change.kind} {change.name}" for change in told] == WRITES[name].told(house)
    assert [change.number for change in told] == [before.number + 1]
    assert {change.organization_id for change in told} <= {house.tenant.organization, ""}


@pytest.mark.parametrize("name", WRITES)
async def test_a_write_whose_change_cannot_be_recorded_is_not_made(database: Database, name: str) -> None:
    """They are one transaction: the feed is full here, and every table is afterwards as it was."""
    stores = sql_stores(database)
    house = await House(stores).open()
    act = WRITES[name].act(house)
    async with database.transaction() as connection:
        if database.is_shared:
            last = {"number": _LAST_NUMBER, "kind": "key", "name": "x", "organization_id": "", "time": NOW}
            await connection.execute(changes.insert(), last)
        else:
            # SQLite would go on in floating point.
            refuse = "CREATE TRIGGER full BEFORE INSERT ON changes BEGIN SELECT RAISE(ABORT, 'full'); END"
            await connection.exec_driver_sql(refuse)
    before = await _everything(database)
    with pytest.raises((StoreUnavailableError, ConflictError)):
        await act()
    assert await _everything(database) == before


async def test_the_first_organization_records_its_three_changes(stores: Any) -> None:
    """Once: a second first start adds and records nothing."""
    organization = Organization(new_id("org"), "x", NOW)
    team, member = Team(organization.id, "team_a", "x", NOW), Member(organization.id, "user_a", "x", NOW)
    added = [await stores.organizations.add_first(organization, team, member) for _ in range(2)]
    assert added == [True, False]
    recorded = await stores.changes.since(0, 10)
    told = [("organization", organization.name), ("team", team.name), ("member", member.name)]
    assert [(change.kind, change.name) for change in recorded] == told
    assert {change.organization_id for change in recorded} == {organization.id}


async def test_the_first_organization_comes_with_its_changes_or_not_at_all(database: Database) -> None:
    """The team is one of another organization here, so that its row cannot be written."""
    stores = sql_stores(database)
    organization = Organization(new_id("org"), "x", NOW)
    stray = Team(new_id("org"), "team_a", "x", NOW)
    with pytest.raises((StoreUnavailableError, ConflictError)):
        await stores.organizations.add_first(organization, stray, Member(organization.id, "user_a", "x", NOW))
    assert await stores.organizations.get(organization.id) is None
    assert await stores.changes.latest() is None


async def test_what_is_undone_later_was_never_told(database: Database) -> None:
    """An error behind a write, in the same transaction, takes the change back too."""
    stores = sql_stores(database)
    organization = Organization(new_id("org"), "x", NOW)
    await keep(stores.people, organization)

    async def fail() -> None:
        async with stores.people.tenant(organization.id) as tenant:
            await tenant.put(replace(organization, display_name="y"), LATER)
            raise LookupError

    with pytest.raises(LookupError):
        await fail()
    assert await stores.organizations.get(organization.id) == organization
    latest = await stores.changes.latest()
    assert latest is not None
    assert latest.number == 1


async def _everything(database: Database) -> dict[str, list[tuple[str, ...]]]:
    found = {}
    for table in metadata.sorted_tables:
        async with database.read() as connection:
            rows = (await connection.execute(select(table))).all()
        found[table.name] = sorted((tuple(map(str, row)) for row in rows), key=str)
    return found
