"""What the database and Redis of a configuration are and hold: asked, and left as they are."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from urllib.parse import parse_qs, urlsplit

from tokendance_cli.announcement import is_local
from tokendance_cli.node import Role
from tokendance_cli.preflight.kept import inspect_kept
from tokendance_cli.preflight.row import Row, State
from tokendance_cli.preflight.upstreams import policy_of
from tokendance_cli.settings import GatewaySettings
from tokendance_server.config import ServerConfig
from tokendance_server.domain.catalogue.entries import Rows
from tokendance_server.inspection import check_lease, check_secrets, open_reader, read_catalogue
from tokendance_server.startup import StartupError
from tokendance_server.storage import read_secrets
from tokendance_server.stores.migrations import HEAD
from tokendance_server.stores.migrations.state import SchemaState, Verdict, running_version
from tokendance_server.stores.redis import RedisServer, look_at_redis
from tokendance_server.stores.sql.database import Database, too_new

STORES = ("database", "counters", "secrets", "lease")
"""The parts that are stores themselves, and not what they hold."""

_VERIFIED = frozenset({"require", "verify-ca", "verify-full"})
_MADE = "what is not there is made at the first start"
_LOOK_AT = "see docs/operations/databases.md"


def inspect_stores(settings: GatewaySettings, role: Role) -> tuple[list[Row], Rows | None]:
    """Return the rows of database, counters and kept catalogue, and what is kept; None where that is not known."""
    return asyncio.run(_inspect(settings, role))


async def _inspect(settings: GatewaySettings, role: Role) -> tuple[list[Row], Rows | None]:
    counters = await _counters(settings.server)
    rows: list[Row] = []
    kept: Rows | None = None
    try:
        async with open_reader(settings.server) as database:
            if database is None:
                told = "SQLite in the data directory, made at the first start, for one node"
                return [Row("database", State.LIMITED, told), counters, _own_secrets(settings.server)], Rows()
            state = await database.schema()
            rows.append(_schema(database, state))
            if state.revision == HEAD:
                rows += await _held(settings.server, database)
                found = await read_catalogue(
                    settings.server, database, settings.providers, settings.models, policy_of(settings, role)
                )
                kept = found.rows
                rows += inspect_kept(settings, found)
    except StartupError as error:
        rows.append(_problem("database", error))
    return [*rows[:1], counters, *rows[1:]], kept


def _own_secrets(config: ServerConfig) -> Row:
    """Tell whether the secrets that the settings or the data directory name can be used."""
    try:
        kept = read_secrets(config)
    except (StartupError, ValueError) as error:
        return _problem("secrets", error)
    return Row("secrets", State.ON, "there" if kept.peppers and kept.ring else _MADE)


def _schema(database: Database, state: SchemaState) -> Row:
    """Tell where the database is and what a start would make of its schema."""
    verdict, shared = state.verdict(running_version()), database.is_shared
    where = f"PostgreSQL {database.place}" if shared else f"SQLite {database.place}, for one node"
    if verdict is Verdict.REFUSED:
        return _problem("database", too_new(database.place, state))
    if verdict is Verdict.BEHIND and shared:
        told = f"{where} has schema {state.revision or 'none'}, and this version needs {HEAD}"
        return Row("database", State.PROBLEM, told, "run `tokendance migrate apply`")
    if verdict is Verdict.BEHIND:
        told = f"{where}, schema {state.revision or 'none'}: migrated to {HEAD} at the start, after a copy"
        return Row("database", State.LIMITED, told)
    told = f"{where}, schema {state.revision}"
    if verdict is Verdict.SERVED:
        return Row(
            "database", State.LIMITED, f"{told}: a newer one, on which this version may serve", "update the node"
        )
    return Row("database", State.ON if shared else State.LIMITED, told)


def inspect_ways(config: ServerConfig) -> Iterator[Row]:
    """Yield each store whose URL lets others read along on the way to it."""
    if config.database_url is not None:
        url = urlsplit(config.database_url.get_secret_value())
        mode = parse_qs(url.query).get("sslmode", [""])[0]
        if url.hostname and not is_local(f"//{url.hostname}") and mode not in _VERIFIED:
            told = f"{url.hostname} is asked for no TLS: what it keeps can be read on the way"
            yield Row("way to the database", State.INSECURE, told, "add ?sslmode=verify-full to its URL")
    if config.redis_url is not None:
        url = urlsplit(config.redis_url.get_secret_value())
        if url.scheme == "redis" and url.hostname and not is_local(f"//{url.hostname}"):
            told = f"{url.hostname} is asked for no TLS: its password can be read on the way"
            yield Row("way to Redis", State.INSECURE, told, "use rediss://")


async def _held(config: ServerConfig, database: Database) -> Sequence[Row]:
    """Return what secrets the database was filled under, and who serves it now."""
    rows = []
    try:
        same = await check_secrets(config, database)
        told = "pepper and key ring are those of the database" if same else _MADE
        rows.append(Row("secrets", State.ON, told))
    except (StartupError, ValueError) as error:
        rows.append(_problem("secrets", error))
    if not database.is_shared:
        return rows
    try:
        serving, running = await check_lease(config, database)
    except StartupError as error:
        return [*rows, _problem("lease", error)]
    others = len(serving) - running
    if running:
        told = "held by the node that runs on this data directory"
        return [*rows, Row("lease", State.LIMITED, told, "stop it first, or start this one elsewhere")]
    return [*rows, Row("lease", State.ON, f"{others} other nodes serve beside it" if others else "free")]


async def _counters(config: ServerConfig) -> Row:
    """Tell where counters are kept, and so how many nodes can serve together."""
    if config.redis_url is None:
        return Row("counters", State.LIMITED, "in this process, for one node")
    url = urlsplit(config.redis_url.get_secret_value())
    try:
        found = await look_at_redis(config.redis_url.get_secret_value())
    except StartupError as error:
        return _problem("counters", error)
    told = f"{found.program} {found.version} on {url.hostname or 'a Unix socket'}"
    if found.may_forget:
        return _forgetful(told, found)
    return Row("counters", State.ON, f"{told}, which forgets nothing by itself")


def _forgetful(told: str, found: RedisServer) -> Row:
    when = "once its memory is full" if found.max_bytes else "as soon as its memory gets a bound"
    return Row(
        "counters",
        State.INSECURE,
        f"{told} drops counters {when} ({found.policy}), and callers could spend them again",
        "set maxmemory-policy to noeviction",
    )


def _problem(part: str, error: Exception) -> Row:
    """Return what would stop the start; its sentence says what to do behind the last semicolon."""
    told, _, do = str(error).rstrip(".").rpartition("; ")
    return Row(part, State.PROBLEM, told or do, do if told else _LOOK_AT)
