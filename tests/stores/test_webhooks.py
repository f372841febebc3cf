"""Webhooks on every database: kept, sent over real HTTP by one node of two, signed, retried and refused."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import access_pb2, quota_service_pb2
from tokendance.gateway.v1.access_pb2 import CallerKind
from tokendance.ids import new_id
from tokendance_server.domain.clock import ManualClock
from tokendance_server.domain.egress import EgressPolicy
from tokendance_server.domain.keys.key import LimitRule
from tokendance_server.domain.page_tokens import PageTokens
from tokendance_server.domain.principals import Principal
from tokendance_server.domain.quota.claims import REQUESTS, TOTAL_TOKENS, row_of
from tokendance_server.domain.quota.store import Place
from tokendance_server.domain.quota.thresholds import Crossing
from tokendance_server.domain.quota.windows import DAY, MINUTE, TOTAL, window_id
from tokendance_server.domain.sealing import KeyRing, ring_key_id
from tokendance_server.domain.webhooks.desk import Webhooks
from tokendance_server.domain.webhooks.seals import WebhookSeals
from tokendance_server.domain.webhooks.sender import DELAYS_S, WebhookSender
from tokendance_server.domain.webhooks.webhook import Webhook, WebhookDraft
from tokendance_server.providers.webhook_post import WebhookPost
from tokendance_server.stores.sql.database import Database
from tokendance_server.stores.sql.peppers import ring_keys_in_use
from tokendance_server.stores.sql.tables import organizations
from tokendance_server.stores.sql.webhooks import SqlWebhookStore

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
EVENT = quota_service_pb2.WEBHOOK_EVENT_QUOTA_THRESHOLD
OPEN = EgressPolicy(allow_loopback=True)
RING, NEWER = bytes(range(32)), bytes(range(32, 64))


def admin(organization: str, kind: CallerKind.ValueType = access_pb2.CALLER_KIND_ORGANIZATION_ADMIN) -> Principal:
    """An administrator, or another kind of member, of an organization."""
    name = f"{organization}/members/{new_id('user')}"
    return Principal(kinds=frozenset({kind}), name=name, organization=organization)


@dataclass
class Receiver:
    """An HTTP server on loopback that keeps what it is sent."""

    url: str = ""
    answers: list[int] = field(default_factory=list)
    calls: list[tuple[dict[str, str], bytes]] = field(default_factory=list)

    async def take(self, request: web.Request) -> web.Response:
        """Keep the call; answer as told, else 204."""
        self.calls.append(({name.lower(): value for name, value in request.headers.items()}, await request.read()))
        status = self.answers.pop(0) if self.answers else 204
        return web.Response(status=status, headers={"location": "/elsewhere"} if status == 302 else {})

    def documents(self) -> list[dict[str, Any]]:
        """The bodies."""
        return [json.loads(body) for _, body in self.calls]


@asynccontextmanager
async def receiving() -> AsyncIterator[Receiver]:
    """Run a receiver."""
    receiver = Receiver()
    app = web.Application()
    app.router.add_post("/{path:.*}", receiver.take)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    receiver.url = f"http://127.0.0.1:{runner.addresses[0][1]}/hook"
    try:
        yield receiver
    finally:
        await runner.cleanup()


class Fates:
    """Satisfies Told."""

    def __init__(self) -> None:
        self.all: list[str] = []

    def ended(self, outcome: str) -> None:
        """Keep it."""
        self.all.append(outcome)

    def failing(self, error: Exception | None) -> None:
        """Nothing fails here."""
        raise AssertionError(error)


class Places:
    """Every key is of one owner and one team."""

    def __init__(self, owner: str, team: str) -> None:
        self._place = Place("", owner, frozenset({team}))

    async def place(self, subject: str) -> Place | None:
        """Return it."""
        return self._place


class House:
    """One organization, its desk, and nodes that send."""

    def __init__(self, database: Database) -> None:
        self.id = new_id("org")
        self.organization = f"organizations/{self.id}"
        self.owner, self.team = new_id("user"), new_id("team")
        self.database, self.store = database, SqlWebhookStore(database)
        self.clock = ManualClock(NOW)
        self.admin = admin(self.organization)
        self.desk = self.desk_with(RING)
        self.watched: frozenset[int] = frozenset()

    def desk_with(self, *ring: bytes, egress: EgressPolicy = OPEN) -> Webhooks:
        """A desk with such a ring."""
        seals = WebhookSeals(KeyRing(ring))
        return Webhooks(self.store, seals, egress, PageTokens(bytes(32)), self.clock)

    def node(self, database: Database | None = None, egress: EgressPolicy = OPEN) -> tuple[WebhookSender, Fates]:
        """What sends on one node."""
        fates = Fates()
        sender = WebhookSender(
            SqlWebhookStore(database or self.database),
            WebhookSeals(KeyRing([RING])),
            WebhookPost(egress),
            places=Places(self.owner, self.team),
            clock=self.clock,
            told=fates,
            watch=self._watch,
        )
        return sender, fates

    def _watch(self, percents: frozenset[int]) -> None:
        self.watched = percents

    async def webhook(self, url: str, **fields: Any) -> tuple[Webhook, str]:
        """Make one."""
        draft = WebhookDraft(**{"display_name": "Pager", "url": url, "events": (EVENT,), **fields})
        return await self.desk.create(self.admin, self.organization, draft)

    def crossing(self, percent: int = 80, *, rule: LimitRule | None = None, key: str = "") -> Crossing:
        """A limit of 10 requests a day of which so much is spent."""
        rule = rule or LimitRule(REQUESTS, DAY, 10)
        subject = f"{self.organization}/keys/{key}" if key else self.organization
        return Crossing(row_of(subject, rule), window_id(rule.window, NOW.timestamp()), percent, percent // 10)


@pytest.fixture
async def house(database: Database) -> House:
    """A house that is in the database."""
    made = House(database)
    row = {"display_name": "O", "create_time": NOW, "search": "o", "version": 1, "labels": {}, "state": "active"}
    async with database.transaction() as connection:
        await connection.execute(organizations.insert(), {"id": made.id, "contact": "", **row})
    return made


@pytest.fixture
async def second_database(
    database: Database, request: pytest.FixtureRequest, tmp_path: Path
) -> AsyncIterator[Database]:
    """The handle of another node on the same database."""
    if database.is_shared:
        opened = await Database.open_postgresql(request.getfixturevalue("_postgres_for_rows"))
    else:
        opened = await Database.open_sqlite(tmp_path / "gateway.db")
    yield opened
    await opened.close()


def signatures(secret: str, call: tuple[dict[str, str], bytes]) -> bool:
    """Verify as a receiver does."""
    headers, body = call
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    key = base64.b64decode(secret.removeprefix("whsec_"))
    wanted = "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    return wanted in headers["webhook-signature"].split()


async def test_a_warning_is_posted_once_with_ids_and_numbers(house: House) -> None:
    """Signed with the secret that was shown; told again, also by another process, it is not sent again."""
    async with receiving() as receiver:
        made, secret = await house.webhook(receiver.url)
        for _ in range(2):
            sender, _ = house.node()
            sender(house.crossing())
            sender(house.crossing())
            await sender.turn()
        (call,) = receiver.calls
        assert signatures(secret, call)
        assert not signatures("whsec_" + base64.b64encode(bytes(32)).decode(), call)
        assert call[0]["webhook-timestamp"] == str(int(NOW.timestamp()))
        assert receiver.documents() == [
            {
                "event": "quota_threshold",
                "time": "2026-06-01T12:00:00Z",
                "organization": house.organization,
                "subject": house.organization,
                "metric": "requests",
                "window": "day",
                "limit": 10,
                "spent": 8,
                "percent": 80,
                "soft": False,
                "model": "",
                "reset_time": "2026-06-02T00:00:00Z",
            }
        ]
        kept = await house.desk.get(house.admin, made.name)
        assert (kept.health.last_success_time, kept.health.failures, kept.version) == (NOW, 0, 1)
        assert secret not in repr(kept)


async def test_two_nodes_send_one_warning_once(house: House, second_database: Database) -> None:
    """Both saw it, and both look for what is due at the same moment."""
    async with receiving() as receiver:
        await house.webhook(receiver.url)
        (one, first), (other, second) = house.node(), house.node(second_database)
        for sender in (one, other):
            sender(house.crossing(80))
            sender(house.crossing(100))
        await asyncio.gather(one.turn(), other.turn())
        assert sorted(document["percent"] for document in receiver.documents()) == [80, 100]
        assert first.all + second.all == ["delivered"] * 2


async def test_both_secrets_sign_while_rotating(house: House) -> None:
    """Until the overlap ends; a third at the same time is refused unless both end at once."""
    async with receiving() as receiver:
        made, old = await house.webhook(receiver.url)
        _, new = await house.desk.rotate(house.admin, made.name, timedelta(hours=1), request_id="r")
        assert (await house.desk.rotate(house.admin, made.name, request_id="r"))[1] == ""
        with pytest.raises(GatewayError) as caught:
            await house.desk.rotate(house.admin, made.name)
        assert caught.value.code == "failed_precondition"
        sender, _ = house.node()
        sender(house.crossing(80))
        await sender.turn()
        house.clock.advance(3600)
        sender(house.crossing(100))
        await sender.turn()
        both, after = receiver.calls
        assert signatures(old, both)
        assert signatures(new, both)
        assert not signatures(old, after)
        assert signatures(new, after)


async def test_what_fails_is_tried_again_with_the_same_id_until_a_day_is_over(house: House) -> None:
    """An error and a redirect are failures; the body and its id stay the same; in the end it is given up."""
    async with receiving() as receiver:
        receiver.answers = [500, 302, 200]
        made, _ = await house.webhook(receiver.url)
        sender, fates = house.node()
        sender(house.crossing())
        await sender.turn()
        await sender.turn()
        assert fates.all == ["retried"]
        house.clock.advance(DELAYS_S[0] * 1.2)
        await sender.turn()
        kept = await house.desk.get(house.admin, made.name)
        assert (kept.health.last_failure, kept.health.failures) == ("It answered 302; redirects are not followed.", 2)
        house.clock.advance(DELAYS_S[1] * 1.2)
        await sender.turn()
        assert fates.all == ["retried", "retried", "delivered"]
        assert len({(headers["webhook-id"], body) for headers, body in receiver.calls}) == 1
        assert len(receiver.calls) == 3

        receiver.answers = [503] * 20
        sender(house.crossing(100))
        for _ in range(12):
            await sender.turn()
            house.clock.advance(DELAYS_S[-1] * 1.2)
        assert fates.all[3:] == ["retried"] * len(DELAYS_S) + ["failed"]
        assert (await house.desk.get(house.admin, made.name)).health.failures == len(DELAYS_S) + 1


async def test_a_try_that_died_is_made_again_by_another_node(house: House) -> None:
    """What a node had claimed is due again when its lease is over."""
    async with receiving() as receiver:
        await house.webhook(receiver.url)
        sender, fates = house.node()
        sender(house.crossing())
        await sender._keep_crossings()
        (lost,) = await house.store.claim(NOW, NOW + timedelta(seconds=60), 10)
        await sender.turn()
        assert receiver.calls == []
        house.clock.advance(61)
        await sender.turn()
        assert fates.all == ["delivered"]
        assert receiver.calls[0][0]["webhook-id"] == lost.id


async def test_the_guard_holds_when_saved_and_on_each_connect(house: House) -> None:
    """Loopback and private addresses are refused where they are closed, also after the policy changed, and http."""
    async with receiving() as receiver:
        made, _ = await house.webhook(receiver.url)
        closed = EgressPolicy()
        sender, fates = house.node(egress=closed)
        sender(house.crossing())
        await sender.turn()
        assert fates.all == ["retried"]
        assert receiver.calls == []
        failure = (await house.desk.get(house.admin, made.name)).health.last_failure
        assert failure == "The gateway may not connect to its address."
        desk = house.desk_with(RING, egress=closed)
        for url in (receiver.url, "https://10.0.0.1/x", "http://example.com/x", "https://169.254.169.254/", "ftp://a/"):
            with pytest.raises(GatewayError) as caught:
                await desk.create(house.admin, house.organization, WebhookDraft("B", url, (EVENT,)))
            assert (caught.value.code, caught.value.param) == ("invalid_request", "webhook.url")


async def test_only_what_was_asked_for_goes_out(house: House) -> None:
    """Thresholds, subjects with all below them, and nothing of what is disabled."""
    key = new_id("key")
    team = f"{house.organization}/teams/{house.team}"
    async with receiving() as receiver:
        await house.webhook(f"{receiver.url}/team", percents=(50,), subjects=(team,))
        await house.webhook(f"{receiver.url}/off", display_name="Off", disabled=True)
        sender, _ = house.node()
        sender(house.crossing(50, key=key))
        sender(house.crossing(50))
        sender(house.crossing(80, key=key))
        await sender.turn()
        (told,) = receiver.documents()
        assert (told["percent"], told["subject"]) == (50, f"{house.organization}/keys/{key}")
        assert house.watched == {50}


async def test_windows_without_an_end_and_minutes(house: House) -> None:
    """A total has no reset and is never told twice; a minute's window is that of the clock."""
    async with receiving() as receiver:
        await house.webhook(receiver.url)
        sender, _ = house.node()
        sender(house.crossing(rule=LimitRule(TOTAL_TOKENS, TOTAL, 10)))
        sender(house.crossing(rule=LimitRule(REQUESTS, MINUTE, 10)))
        await sender.turn()
        house.clock.advance(60 * 86_400)
        await house.store.prune(house.clock.now(), 100)
        sender(house.crossing(rule=LimitRule(TOTAL_TOKENS, TOTAL, 10)))
        await sender.turn()
        total, minute = receiver.documents()
        assert total["reset_time"] is None
        assert minute["reset_time"] == "2026-06-01T12:01:05Z"


async def test_the_desk_keeps_its_promises(house: House) -> None:
    """Repeats, names, versions, scope, and what is deleted twice."""
    draft = WebhookDraft("Pager", "https://example.com/w", (EVENT,))
    made, secret = await house.desk.create(house.admin, house.organization, draft, "once")
    assert secret.startswith("whsec_")
    again, nothing = await house.desk.create(house.admin, house.organization, draft, "once")
    assert (again.name, nothing, again.draft.percents) == (made.name, "", (80, 100))

    async def refused(call: Any) -> str:
        with pytest.raises(GatewayError) as caught:
            await call
        return caught.value.code

    other = WebhookDraft("Other", "https://example.com/w", (EVENT,), (1001,))
    assert await refused(house.desk.create(house.admin, house.organization, draft)) == "already_exists"
    assert await refused(house.desk.create(house.admin, house.organization, other)) == "invalid_request"
    stranger = admin(f"organizations/{new_id('org')}")
    member = admin(house.organization, access_pb2.CALLER_KIND_MEMBER)
    auditor = admin(house.organization, access_pb2.CALLER_KIND_AUDITOR)
    for caller in (stranger, member):
        assert await refused(house.desk.get(caller, made.name)) == "not_found"
        assert await refused(house.desk.page(caller, house.organization)) == "not_found"
        assert await refused(house.desk.rotate(caller, made.name)) == "not_found"
    assert (await house.desk.page(auditor, house.organization))[0] == [made]
    assert await refused(house.desk.delete(auditor, made.name)) == "not_found"
    named = WebhookDraft("New", "", ())
    assert await refused(house.desk.update(house.admin, made.name, named, frozenset({"url"}))) == "invalid_request"
    fields = frozenset({"display_name"})
    changed = await house.desk.update(house.admin, made.name, named, fields, made.etag)
    assert (changed.draft.display_name, changed.draft.url, changed.version) == ("New", "https://example.com/w", 2)
    assert await refused(house.desk.update(house.admin, made.name, draft, fields, made.etag)) == "version_conflict"
    await house.desk.delete(house.admin, made.name)
    await house.desk.delete(house.admin, made.name)
    assert await refused(house.desk.get(house.admin, made.name)) == "not_found"


async def ring_ids(database: Database) -> set[str]:
    """The keys of the ring that the database needs."""
    async with database.transaction() as connection:
        return set(await ring_keys_in_use(connection))


async def test_secrets_move_to_the_key_in_force(house: House) -> None:
    """So that the key before can be taken out of the ring; what they are stays."""
    made, secret = await house.webhook("https://example.com/w")
    newer = house.desk_with(NEWER, RING)
    assert await house.desk_with(NEWER).reseal() == 0
    assert await ring_ids(house.database) == {ring_key_id(RING)}
    assert await newer.reseal() == 1
    assert await newer.reseal() == 0
    kept = await house.desk.get(house.admin, made.name)
    assert await ring_ids(house.database) == {ring_key_id(NEWER)}
    assert WebhookSeals(KeyRing([NEWER])).valid(kept, NOW) == [secret]


async def test_a_queue_without_end_is_bounded_and_what_waits_is_kept_at_the_end(house: House) -> None:
    """What has no room is counted as lost; what was told just before the end goes out at the next start."""
    async with receiving() as receiver:
        await house.webhook(receiver.url)
        sender, fates = house.node()
        for _ in range(10_001):
            sender(house.crossing())
        assert fates.all == ["lost"]
        sender, _ = house.node()
        sender.start()
        sender(house.crossing(100))
        await sender.close()
        other, _ = house.node()
        await other.turn()
        assert [one["percent"] for one in receiver.documents()] == [100]
