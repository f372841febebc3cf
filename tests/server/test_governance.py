"""The keys of a node as they are wired: over a real database, with one that fails under them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import structlog
from sqlalchemy import text
from tests.stores.test_usage import T0, entry

from tokendance.errors import GatewayError
from tokendance.gateway.v1.access_pb2 import CALLER_KIND_AUDITOR
from tokendance_server.config import ServerConfig
from tokendance_server.domain.clock import ManualClock
from tokendance_server.domain.keys.key import Key, KeyDraft, KeyQuota
from tokendance_server.domain.keys.secrets import PepperRing
from tokendance_server.domain.organizations import FirstNames, MemberRole, OrganizationState
from tokendance_server.domain.people.records import MemberDraft
from tokendance_server.domain.principals import Principal
from tokendance_server.domain.usage.store import Grouping, UsageFilter
from tokendance_server.governance import Governance, build_governance
from tokendance_server.services.credentials import LOCAL_OPERATOR
from tokendance_server.stores.sql.database import Database
from tokendance_server.stores.sql.tables import replays
from tokendance_server.stores.sql.usage import SqlUsageStore

CLOCK_START = datetime(2026, 6, 1, 12, tzinfo=UTC)


class House:
    """A node's governance, its database and its clock."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.clock = ManualClock(CLOCK_START)
        config = ServerConfig(changes_stale_after_s=7)
        self.governance: Governance = build_governance(config, database, PepperRing.of(bytes(range(32))), self.clock)

    async def make_key(self) -> tuple[str, str]:
        names = await self.governance.organizations.bootstrap()
        assert names is not None
        draft = KeyDraft(
            purpose="Reports",
            owner=names.member,
            team=names.team,
            quota=KeyQuota(inherited_from=names.organization),
            rotation_period_s=90 * 86_400,
            responsible=names.member,
        )
        key, secret = await self.governance.keys.create(LOCAL_OPERATOR, names.organization, draft)
        return key.name, secret

    async def make_another_key(self, names: FirstNames) -> Key:
        draft = KeyDraft("More", names.member, names.team, KeyQuota(names.organization), 86_400, names.member)
        return (await self.governance.keys.create(LOCAL_OPERATOR, names.organization, draft))[0]

    async def run(self, statement: str) -> None:
        async with self.database.transaction() as connection:
            await connection.execute(text(statement))

    async def code_of(self, secret: str) -> str:
        try:
            await self.governance.verifier.verify(secret)
        except GatewayError as error:
            return error.code
        return "ok"


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    """A node on an empty SQLite database; its watcher polls when told."""
    database = await Database.open_sqlite(tmp_path / "gateway.db")
    yield House(database)
    await database.close()


async def test_without_a_watcher_nobody_is_let_in(house: House) -> None:
    """Nothing is believed that nobody would correct."""
    _, secret = await house.make_key()
    assert await house.code_of(secret) == "key_store_unavailable"
    await house.governance.watcher.poll()
    assert await house.code_of(secret) == "ok"


async def test_a_change_is_known_at_once_where_it_was_made(house: House) -> None:
    """Not only when the node next polls."""
    name, secret = await house.make_key()
    await house.governance.watcher.poll()
    assert await house.code_of(secret) == "ok"
    await house.governance.life.revoke(LOCAL_OPERATOR, name)
    assert await house.code_of(secret) == "key_revoked"


async def test_a_key_changed_behind_the_nodes_back_is_known_after_a_poll(house: House) -> None:
    """As another node would change it: with its row in the feed."""
    _, secret = await house.make_key()
    await house.governance.watcher.poll()
    assert await house.code_of(secret) == "ok"
    await house.run("UPDATE keys SET state = 'suspended'")
    assert await house.code_of(secret) == "ok"
    newest = "(SELECT max(number) FROM changes)"
    await house.run(
        f"INSERT INTO changes SELECT number + 1, kind, organization_id, name, time FROM changes WHERE number = {newest}"
    )
    await house.governance.watcher.poll()
    assert await house.code_of(secret) == "key_suspended"


async def test_a_node_that_cannot_read_the_changes_stops_after_the_configured_time(house: House) -> None:
    """It goes on with what it knows until then, says once what is wrong, and goes on by itself when it sees again."""
    said = StringIO()
    _, secret = await house.make_key()
    structlog.configure(
        processors=[structlog.processors.add_log_level, structlog.processors.JSONRenderer()],
        logger_factory=structlog.WriteLoggerFactory(file=said),
    )
    watcher = house.governance.watcher
    try:
        await watcher.start()
        assert await house.code_of(secret) == "ok"
        await house.run("ALTER TABLE changes RENAME TO gone")
        house.clock.advance(7)
        await watcher._step()
        await watcher._step()
        assert (watcher.healthy, await house.code_of(secret)) == (True, "ok")
        house.clock.advance(0.001)
        assert await house.code_of(secret) == "key_store_unavailable"
        await house.run("ALTER TABLE gone RENAME TO changes")
        await watcher._step()
        assert await house.code_of(secret) == "ok"
    finally:
        await watcher.stop()
        structlog.reset_defaults()
    lines = [json.loads(line) for line in said.getvalue().splitlines()]
    assert [(line["level"], line["event"]) for line in lines] == [
        ("warning", "changes_not_seen"),
        ("info", "changes_seen_again"),
    ]
    assert lines[0]["error"] == "StoreUnavailableError"


async def test_keys_that_cannot_be_looked_up_are_not_called_unknown(house: House) -> None:
    """A database that fails is a reason to try again, never to throw a key away."""
    _, secret = await house.make_key()
    await house.governance.watcher.poll()
    await house.run("ALTER TABLE key_secrets RENAME TO gone")
    assert await house.code_of(secret) == "key_store_unavailable"
    await house.run("ALTER TABLE gone RENAME TO key_secrets")
    assert await house.code_of(secret) == "ok"


@pytest.mark.parametrize("stopped", ["member", "removal", "organization"])
async def test_the_streams_of_who_is_stopped_end(house: House, stopped: str) -> None:
    """When the change is seen, with what the next call would hear; another member's go on."""
    people = house.governance.people
    names = await house.governance.organizations.bootstrap()
    assert names is not None
    draft = MemberDraft(subject="other", roles=(MemberRole.ADMIN,))
    other = (await people.members.create(LOCAL_OPERATOR, names.organization, draft)).member
    await house.governance.watcher.poll()
    ends: dict[str, list[GatewayError]] = {}
    for name in (names.member, other.name):
        who = Principal(frozenset({CALLER_KIND_AUDITOR}), name=name, organization=names.organization)
        house.governance.streams.enter(who, ends.setdefault(name, []).append)
    if stopped == "member":
        await people.members.suspend(LOCAL_OPERATOR, names.member)
    elif stopped == "removal":
        await people.members.delete(LOCAL_OPERATOR, names.member)
    else:
        await people.organizations.set_state(LOCAL_OPERATOR, names.organization, OrganizationState.SUSPENDED)
    await house.governance.watcher.poll()
    async with asyncio.timeout(1):
        while not ends[names.member]:
            await asyncio.sleep(0.001)
    assert [error.code for error in ends[names.member]] == ["permission_denied"]
    if stopped != "organization":
        assert ends[other.name] == []
    await house.governance.streams.close()


async def _keep_answer(database: Database, organization_id: str, key_id: str) -> None:
    row = {
        "organization_id": organization_id,
        "scope": bytes(32),
        "fingerprint": bytes(32),
        "token": "t",
        "key_id": key_id,
        "request_id": "req_1",
        "sealed": b"x",
        **dict.fromkeys(("secret_time", "create_time", "expire_time"), CLOCK_START),
    }
    async with database.transaction() as connection:
        await connection.execute(replays.insert(), row)


async def test_an_erasure_reaches_the_usage(house: House) -> None:
    """Counted before, named anew after; the totals stay, and who asks again counts nothing."""
    names = await house.governance.organizations.bootstrap()
    assert names is not None
    _, organization_id, _, member_id = names.member.split("/")
    usage = SqlUsageStore(house.database)
    mine: dict[str, Any] = {"organization_id": organization_id, "member_id": member_id}
    await usage.insert([entry(1, T0, user="somebody", **mine), entry(2, T0, **mine), entry(3, T0)])
    erase = house.governance.people.erasure
    await _keep_answer(house.database, organization_id, (await house.make_another_key(names)).id)
    counted = await erase.member(LOCAL_OPERATOR, names.member, reason="x", validate_only=True)
    assert (counted.traces.usage_records, counted.traces.stored_answers) == (2, 1)
    await erase.member(LOCAL_OPERATOR, names.member, reason="x")
    found = await usage.sum_up(UsageFilter(organization_id=organization_id), 0, 2 * T0, [Grouping("member_id")], 0)
    ((values, sums),) = [(one.values, one.sums) for one in found]
    assert (str(values[0]).startswith("erased_"), sums.requests) == (True, 2)
    assert (await usage.find("req_1", "", 1))[0].request.user == ""
    again = await erase.member(LOCAL_OPERATOR, names.member, reason="x")
    assert (again.traces.usage_records, again.traces.stored_answers) == (0, 0)
    await house.governance.people.organizations.set_state(
        LOCAL_OPERATOR, names.organization, OrganizationState.SUSPENDED
    )
    whole = await erase.organization(LOCAL_OPERATOR, names.organization, etag='"2"', reason="x", validate_only=True)
    assert whole.traces.usage_records == 0
