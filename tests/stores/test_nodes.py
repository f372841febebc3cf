"""Two nodes over one store: what one of them changes, the other sees within a second."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

import pytest

from tokendance.errors import GatewayError
from tokendance_server.config import ServerConfig
from tokendance_server.domain.changes import ChangeFeed, ChangeKind, Watcher
from tokendance_server.domain.clock import SystemClock
from tokendance_server.domain.keys.key import KeyDraft, KeyQuota
from tokendance_server.domain.keys.keys import Keys
from tokendance_server.domain.keys.life import KeyLife
from tokendance_server.domain.keys.secrets import PepperRing
from tokendance_server.domain.keys.store import KeyStore
from tokendance_server.domain.keys.verifier import Verifier
from tokendance_server.domain.organizations import Organizations, OrganizationStore
from tokendance_server.services.credentials import LOCAL_OPERATOR
from tokendance_server.stores.sql.changes import SqlChangeFeed
from tokendance_server.stores.sql.database import Database
from tokendance_server.stores.sql.keys import SqlKeyStore
from tokendance_server.stores.sql.organizations import SqlOrganizationStore

PEPPERS = PepperRing.of(bytes(range(32)))


class Node:
    """One node's keys, as `build_governance` wires them, over stores that are given."""

    def __init__(self, keys: KeyStore, organizations: OrganizationStore, changes: ChangeFeed) -> None:
        clock = SystemClock()
        self.troubles: list[Exception | None] = []
        self.organizations = Organizations(organizations, clock)
        self.watcher = Watcher(changes, clock, self.troubles.append)
        self.verifier = Verifier(keys, PEPPERS, clock, lambda: self.watcher.healthy, cache_s=ServerConfig().key_cache_s)
        self.watcher.subscribe(ChangeKind.KEY, self.verifier)
        changed = self.verifier.forget
        self.keys = Keys(keys, self.organizations, PEPPERS, clock, changed)
        self.life = KeyLife(self.keys, keys, self.organizations, PEPPERS, clock, changed=changed)

    async def code_of(self, secret: str) -> str:
        """Return what comes of a use of a secret: `ok`, or the code of the refusal."""
        try:
            if self.verifier.verify_cached(secret) is None:
                await self.verifier.verify(secret)
        except GatewayError as error:
            return error.code
        return "ok"

    async def becomes(self, secret: str, code: str) -> float:
        """Return how many seconds it takes until a use of the secret ends in `code`; fails after one second."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        async with asyncio.timeout(1):
            while await self.code_of(secret) != code:
                await asyncio.sleep(0.01)
        return loop.time() - began


@pytest.fixture
async def nodes(stores: Any, request: pytest.FixtureRequest) -> AsyncIterator[tuple[Node, Node]]:
    """Two nodes; on PostgreSQL each with connections of its own."""
    async with AsyncExitStack() as stack:
        mine = Node(stores.keys, stores.organizations, stores.changes)
        other = Node(stores.keys, stores.organizations, stores.changes)
        if request.node.callspec.params["stores"] == "postgresql":
            database = await Database.open_postgresql(request.getfixturevalue("_postgres_for_rows"))
            stack.push_async_callback(database.close)
            other = Node(SqlKeyStore(database), SqlOrganizationStore(database), SqlChangeFeed(database))
        for node in (mine, other):
            await node.watcher.start()
            stack.push_async_callback(node.watcher.stop)
        yield mine, other


async def _make_key(node: Node) -> tuple[str, str, KeyDraft]:
    names = await node.organizations.bootstrap()
    assert names is not None
    draft = KeyDraft(
        purpose="Reports",
        owner=names.member,
        team=names.team,
        quota=KeyQuota(inherited_from=names.organization),
        rotation_period_s=90 * 86_400,
        responsible=names.member,
    )
    key, secret = await node.keys.create(LOCAL_OPERATOR, names.organization, draft)
    return key.name, secret, draft


async def test_a_key_lives_and_ends_on_both_nodes(nodes: tuple[Node, Node]) -> None:
    """Made, used, suspended, resumed, updated, rotated, revoked on one; the other follows, and the first at once."""
    mine, other = nodes
    name, secret, draft = await _make_key(mine)
    assert [await node.code_of(secret) for node in nodes] == ["ok", "ok"]
    waited = []
    await mine.life.suspend(LOCAL_OPERATOR, name)
    assert await mine.code_of(secret) == "key_suspended"
    waited.append(await other.becomes(secret, "key_suspended"))
    await mine.life.resume(LOCAL_OPERATOR, name)
    assert await mine.code_of(secret) == "ok"
    waited.append(await other.becomes(secret, "ok"))
    wanted = replace(draft, allowed_models=("a",))
    await mine.life.update(LOCAL_OPERATOR, name, wanted, frozenset({"allowed_models"}))
    async with asyncio.timeout(1):
        while (await other.verifier.verify(secret)).allowed_models != {"a"}:
            await asyncio.sleep(0.01)
    rotated = await mine.life.rotate(LOCAL_OPERATOR, name, overlap_s=600)
    assert [await node.code_of(rotated.secret) for node in nodes] == ["ok", "ok"]
    assert [await node.code_of(secret) for node in nodes] == ["ok", "ok"]
    again = await mine.life.rotate(LOCAL_OPERATOR, name, overlap_s=0)
    assert await mine.code_of(rotated.secret) == "key_expired"
    waited += [await other.becomes(one, "key_expired") for one in (secret, rotated.secret)]
    assert [await node.code_of(again.secret) for node in nodes] == ["ok", "ok"]
    await other.life.revoke(LOCAL_OPERATOR, name)
    assert await other.code_of(again.secret) == "key_revoked"
    waited.append(await mine.becomes(again.secret, "key_revoked"))
    assert max(waited) < 1
    assert mine.troubles == other.troubles == []


async def test_of_twenty_rotations_at_once_on_two_nodes_one_wins(nodes: tuple[Node, Node]) -> None:
    """Nobody is left with a new secret that another one's rotation is about to end."""
    name, old, _ = await _make_key(nodes[0])
    results = await asyncio.gather(
        *(nodes[number % 2].life.rotate(LOCAL_OPERATOR, name) for number in range(20)), return_exceptions=True
    )
    won = [result for result in results if not isinstance(result, BaseException)]
    codes = {result.code for result in results if isinstance(result, GatewayError)}
    assert len(won) == 1
    assert len(results) - len(won) == 19
    assert codes <= {"version_conflict", "failed_precondition"}
    assert [await node.code_of(won[0].secret) for node in nodes] == ["ok", "ok"]
    assert [await node.code_of(old) for node in nodes] == ["ok", "ok"]
    key = await nodes[1].keys.get(LOCAL_OPERATOR, name)
    assert (key.version, len(key.secrets)) == (2, 2)


async def test_updates_of_different_fields_at_once_all_count(nodes: tuple[Node, Node]) -> None:
    """Whoever gives no etag loses nobody's update."""
    name, _, draft = await _make_key(nodes[0])
    changes: list[tuple[str, object]] = [
        ("purpose", "New"),
        ("allowed_models", ("a",)),
        ("allowed_networks", ("10.0.0.0/8",)),
        ("labels", {"a": "b"}),
        ("excluded_route_tags", ("eu",)),
    ]
    values: list[dict[str, Any]] = [{field: value} for field, value in changes]
    await asyncio.gather(
        *(
            nodes[number % 2].life.update(LOCAL_OPERATOR, name, replace(draft, **value), frozenset(value))
            for number, value in enumerate(values)
        )
    )
    key = await nodes[0].keys.get(LOCAL_OPERATOR, name)
    assert key.version == 6
    assert [(field, getattr(key, field)) for field, _ in changes] == changes
