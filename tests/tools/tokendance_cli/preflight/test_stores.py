"""What an inspection tells of the database and Redis, and of what the database holds, without changing either."""

from __future__ import annotations

import asyncio
import functools
import hashlib
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from tests.servers import PostgresServer, running_redis
from tests.stores.conftest import migrate
from tests.stores.test_keys import NOW

from tokendance_cli.node import Role
from tokendance_cli.preflight import inspect
from tokendance_cli.preflight.row import Row, State
from tokendance_cli.preflight.stores import inspect_ways
from tokendance_cli.settings import load_settings
from tokendance_server.domain.catalogue.entries import Edit, Entry, EntryKind, ModelSpec, ProviderSpec
from tokendance_server.domain.catalogue.models import Route
from tokendance_server.domain.keys.secrets import PepperRing
from tokendance_server.stores.migrations import HEAD
from tokendance_server.stores.sql.catalogue import SqlCatalogueStore
from tokendance_server.stores.sql.database import Database
from tokendance_server.stores.sql.peppers import check_peppers

ANY_PORT = {"server": {"grpc": "127.0.0.1:0"}, "facade": {"http": "127.0.0.1:0", "internal": "127.0.0.1:0"}}
NODE = "node_0123456789abcdefghijklmnop"

Look = Callable[..., dict[str, Row]]


@pytest.fixture(scope="session")
def template(postgres_server: PostgresServer) -> Iterator[str]:
    """The name of an empty database that has the schema."""
    with postgres_server.template(migrate) as name:
        yield name


@pytest.fixture
def url(postgres_server: PostgresServer, template: str) -> Iterator[str]:
    """The URL of a database of this test, empty and with the schema."""
    with postgres_server.database(template) as url:
        yield url


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data directory as a node left it."""
    folder = tmp_path / "data"
    folder.mkdir(mode=0o700)
    for name, content in (("pepper", bytes(range(32))), ("ring", bytes(range(1, 33))), ("node", NODE.encode())):
        file = folder / name
        file.touch(0o600)
        file.write_bytes(content)
    return folder


@pytest.fixture
def look(data: Path, tmp_path: Path) -> Look:
    """Inspects settings; returns the rows by part, which are one each."""

    def act(toml: str = "", *, role: Role = Role.ALL, **server: Any) -> dict[str, Row]:
        config = tmp_path / "gateway.toml"
        config.touch(0o600)
        config.write_text(toml, encoding="utf-8")
        flags = {"server": {**ANY_PORT["server"], "data_dir": data, **server}, "facade": ANY_PORT["facade"]}
        before = _tree(data)
        rows = list(inspect(load_settings(config, flags), role, config=config, key_file=None, loop="asyncio"))
        assert _tree(data) == before
        assert len({row.part for row in rows}) == len(rows)
        assert all(row.do for row in rows if row.state in (State.PROBLEM, State.BROKEN))
        return {row.part: row for row in rows}

    return act


def _tree(folder: Path) -> dict[str, tuple[int, str]]:
    return {
        path.name: (path.stat().st_mtime_ns, hashlib.sha256(path.read_bytes()).hexdigest()) for path in folder.iterdir()
    }


def _filled(open_it: Callable[[], Awaitable[Database]], *act: Callable[[Database], Awaitable[object]]) -> None:
    """Do something to a database, in a loop of its own, and close it."""

    async def run() -> None:
        database = await open_it()
        for one in act:
            await one(database)
        await database.close()

    asyncio.run(run())


def _always(edit: Edit, _rows: object) -> Edit:
    return edit


def _entries(**entries: Any) -> Callable[[Database], Awaitable[object]]:
    async def fill(database: Database) -> None:
        store = SqlCatalogueStore(database)
        for name, spec in entries.items():
            kind = EntryKind.PROVIDER if isinstance(spec, ProviderSpec) else EntryKind.MODEL
            made: Entry[Any] = Entry(name, spec, NOW, NOW)
            await store.edit(functools.partial(_always, Edit(kind, name, NOW, made)))

    return fill


def _model(*providers: str, **fields: Any) -> ModelSpec:
    return ModelSpec(routes=tuple(Route(one, "up") for one in providers), **fields)


CATALOGUE = {
    "fine": ProviderSpec("openai", "https://a.example/v1", credential_reference="env:TOKENDANCE_PROVIDER_SET"),
    "meta": ProviderSpec("openai", "http://169.254.169.254/v1"),
    "keyless": ProviderSpec("openai", "https://b.example/v1", credential_reference="env:TOKENDANCE_PROVIDER_UNSET"),
    "good": _model("fine"),
    "half": _model("fine", "meta"),
    "dead": _model("meta", "keyless"),
    "gone": _model("none"),
    "taken": _model("fine"),
    "renamed": _model("fine", aliases=("old", "new")),
}
SETTLED = """
[[providers]]
name = "settled"
kind = "demo"
[[models]]
name = "settled"
aliases = ["taken", "old"]
routes = [{ provider = "settled", upstream_model = "demo-echo" }]
"""


def _sqlite(data: Path) -> Callable[[], Awaitable[Database]]:
    return lambda: Database.open_sqlite(data / "gateway.db")


def test_what_the_database_keeps_is_looked_through(look: Look, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Addresses that are refused, credentials that are not there, models without a route: broken, and what to do."""
    monkeypatch.setenv("TOKENDANCE_PROVIDER_SET", "secret-of-the-test")
    _filled(_sqlite(data), _entries(**CATALOGUE))
    rows = look(SETTLED)
    assert "secret-of-the-test" not in repr(rows)
    assert (rows["database"].state, f"schema {HEAD}" in rows["database"].told) == (State.LIMITED, True)
    assert rows["provider fine (kept)"].state is State.ON
    assert "metadata service" in rows["provider meta (kept)"].told
    assert "TOKENDANCE_PROVIDER_UNSET is not set" in rows["provider keyless (kept)"].told
    assert rows["provider keyless (kept)"].do.startswith("set it for the node")
    states = {part: row.state.value for part, row in rows.items() if part.endswith("(kept)")}
    assert states == {
        "provider fine (kept)": "on",
        "provider meta (kept)": "broken",
        "provider keyless (kept)": "broken",
        "model good (kept)": "on",
        "model half (kept)": "limited",
        "model dead (kept)": "broken",
        "model gone (kept)": "broken",
        "model taken (kept)": "broken",
        "model renamed (kept)": "limited",
    }
    assert "the settings give old to another model" in rows["model renamed (kept)"].told
    assert rows["model dead (kept)"].told == "no route works: meta, keyless cannot be called"


def test_the_demo_is_told_of_only_where_it_is_served(look: Look, data: Path) -> None:
    """A provider in the database takes its place."""
    assert look()["provider demo"].told.startswith("built in:")
    _filled(_sqlite(data), _entries(fine=ProviderSpec("openai", "https://a.example/v1")))
    rows = look()
    assert "provider demo" not in rows
    assert (rows["models"].state, rows["models"].do) != (State.ON, "")


def test_a_file_with_an_older_or_a_newer_schema(look: Look, data: Path) -> None:
    """The older is migrated at the start; the newer stops it."""
    _filled(_sqlite(data), _statement("UPDATE schema_version SET version_num = '0003'"))
    row = look()["database"]
    assert (row.state, f"migrated to {HEAD} at the start" in row.told) == (State.LIMITED, True)
    newer = "UPDATE schema_version SET version_num = '9999'", "UPDATE schema_info SET oldest_code_version = '7.0'"
    _filled(lambda: _reopened(data), *map(_statement, newer))
    row = look()["database"]
    assert row.state is State.PROBLEM
    assert "serves version 7.0 or newer" in row.told
    assert row.do == "start that one instead, or restore a copy from before"


async def _reopened(data: Path) -> Database:
    from tokendance_server.stores.sql import sqlite

    file = data / "gateway.db"
    return Database(sqlite.make_engine(file), str(file), read_options={}, describe=sqlite.describe)


def _statement(text: str) -> Callable[[Database], Awaitable[object]]:
    async def run(database: Database) -> None:
        async with database.transaction() as connection:
            await connection.exec_driver_sql(text)

    return run


def test_a_file_that_is_no_database_is_a_problem(look: Look, data: Path) -> None:
    """In one line."""
    (data / "gateway.db").write_bytes(b"this is no database, but it is long enough " * 100)
    row = look()["database"]
    assert (row.state, "not a database" in row.told) == (State.PROBLEM, True)


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_a_pepper_that_is_not_the_databases_is_a_problem(
    look: Look, data: Path, kind: str, request: pytest.FixtureRequest
) -> None:
    """Before every key is refused for it; the right one is fine."""
    server = {} if kind == "sqlite" else {"database_url": request.getfixturevalue("url")}
    ring = PepperRing.of(bytes(range(7, 39)))
    _filled(
        _sqlite(data) if kind == "sqlite" else lambda: Database.open_postgresql(server["database_url"]),
        lambda database: check_peppers(database, ring.checks, NOW),
    )
    row = look(**server)["secrets"]
    assert (row.state, "is not the one under which the keys" in row.told) == (State.PROBLEM, True)
    assert "server.pepper" in row.do
    (data / "pepper").write_bytes(bytes(range(7, 39)))
    assert look(**server)["secrets"].told == "pepper and key ring are those of the database"


def test_postgresql_is_asked_and_left_as_it_is(look: Look, url: str, postgres_server: PostgresServer) -> None:
    """No lease is taken, no pepper written down."""
    rows = look(database_url=url)
    assert (rows["database"].state, f"schema {HEAD}" in rows["database"].told) == (State.ON, True)
    assert (rows["secrets"].state, rows["lease"].told) == (State.ON, "free")
    for table in ("node_leases", "peppers", "ring_keys", "catalogue_state", "changes"):
        assert postgres_server.execute(f"SELECT count(*) FROM {table}", url) == [(0,)]


def test_a_postgresql_without_our_schema_is_a_problem(look: Look, postgres_server: PostgresServer) -> None:
    """With the command that makes it."""
    with postgres_server.database() as url:
        rows = look(database_url=url)
    assert (rows["database"].state, rows["database"].do) == (State.PROBLEM, "run `tokendance migrate apply`")
    assert "secrets" not in rows


def test_a_postgresql_that_is_not_there_is_a_problem(look: Look) -> None:
    """Without its password."""
    row = look(database_url="postgresql://u:hunter2@127.0.0.1:1/gateway")["database"]
    assert (row.state, "nothing listens there" in row.told) == (State.PROBLEM, True)
    assert "hunter2" not in repr(row)
    assert row.do == "check server.database_url, and that it runs"


LEASES = [
    ("node_other", False, False, State.PROBLEM, "without Redis one node serves a database"),
    ("node_other", True, False, State.PROBLEM, "without Redis one node serves a database"),
    ("node_other", False, True, State.PROBLEM, "has no Redis and counts by itself"),
    ("node_other", True, True, State.ON, "1 other nodes serve beside it"),
    (NODE, False, False, State.LIMITED, "held by the node that runs on this data directory"),
]


def test_a_lease_is_told(look: Look, url: str, redis_server: str, postgres_server: PostgresServer) -> None:
    """Whose it is, and whether it leaves room for this node; it stays as it is."""
    for node, shared, with_redis, state, words in LEASES:
        row = f"('{node}', 'run_1', '0.1.0', {shared}, now(), now(), now() + interval '1 hour')"
        postgres_server.execute(f"INSERT INTO node_leases VALUES {row}", url)
        found = look(database_url=url, **({"redis_url": redis_server} if with_redis else {}))["lease"]
        assert found.state is state
        assert words in f"{found.told}; {found.do}"
        assert postgres_server.execute("DELETE FROM node_leases RETURNING node_id", url) == [(node,)]


POLICIES = [
    ("noeviction", "0", State.ON, "which forgets nothing by itself"),
    ("allkeys-lru", "100mb", State.INSECURE, "drops counters once its memory is full (allkeys-lru)"),
    ("volatile-ttl", "0", State.INSECURE, "drops counters as soon as its memory gets a bound"),
]


def test_redis_tells_its_version_and_what_it_forgets(look: Look) -> None:
    """A server that drops keys lets callers spend again what they have spent."""
    with running_redis() as url, redis.Redis.from_url(url) as client:
        for policy, bound, state, words in POLICIES:
            client.config_set("maxmemory-policy", policy)
            client.config_set("maxmemory", bound)
            row = look(redis_url=url)["counters"]
            assert row.state is state
            assert words in row.told
            assert row.told.split()[1][0].isdigit()
            assert (row.do != "") is (state is State.INSECURE)


def test_a_redis_that_is_not_there_is_a_problem(look: Look) -> None:
    """As it would stop the start."""
    row = look(redis_url="redis://:hunter2@127.0.0.1:1/0")["counters"]
    assert (row.state, row.do) == (State.PROBLEM, "check the URL, and that it runs")
    assert "hunter2" not in repr(row)


@pytest.mark.parametrize(
    ("settings", "part", "do"),
    [
        ({"database_url": "postgresql://u:hunter2@db.example/gw"}, "way to the database", "add ?sslmode=verify-full"),
        ({"database_url": "postgresql://u:hunter2@db.example/gw?sslmode=verify-full"}, "way to the database", ""),
        ({"database_url": "postgresql://u:hunter2@127.0.0.1:1/gw"}, "way to the database", ""),
        ({"redis_url": "redis://:hunter2@r.example/0"}, "way to Redis", "use rediss://"),
        ({"redis_url": "rediss://:hunter2@r.example/0"}, "way to Redis", ""),
        ({"redis_url": "redis://:hunter2@127.0.0.1:1/0"}, "way to Redis", ""),
    ],
)
def test_a_way_to_a_store_that_others_can_read_is_insecure(settings: dict[str, str], part: str, do: str) -> None:
    """Whether it can be reached or not; the password is not shown."""
    rows = list(inspect_ways(load_settings(None, {"server": settings}).server))
    assert "hunter2" not in repr(rows)
    assert [(row.part, row.state, row.do[:14]) for row in rows] == ([(part, State.INSECURE, do[:14])] if do else [])


def test_a_facade_has_no_stores(look: Look) -> None:
    """Whatever the settings of a server say."""
    rows = look(role=Role.FACADE, database_url="postgresql://u@127.0.0.1:1/gateway")
    assert not {"database", "counters", "secrets", "lease"} & rows.keys()
