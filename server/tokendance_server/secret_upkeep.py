"""What looks after the secrets that protect others: which are in use, and how they are replaced in a data directory."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path

from sqlalchemy.ext.asyncio import AsyncConnection

from tokendance_server.config import ServerConfig
from tokendance_server.domain.keys.secrets import PEPPER_BYTES, pepper_id
from tokendance_server.domain.sealing import ring_key_id
from tokendance_server.startup import StartupError
from tokendance_server.storage import read_secrets
from tokendance_server.stores.paths import DATABASE_FILE, PEPPER_FILE, RING_FILE, replace_secrets
from tokendance_server.stores.sql import sqlite
from tokendance_server.stores.sql.database import Database
from tokendance_server.stores.sql.peppers import peppers_in_use, ring_keys_in_use


class Kind(StrEnum):
    """The two kinds: peppers, under which keys' digests are made, and the ring, which seals providers' credentials."""

    PEPPER = "pepper"
    RING = "ring"


_FILES = {Kind.PEPPER: PEPPER_FILE, Kind.RING: RING_FILE}
_SETTINGS = {Kind.PEPPER: "server.pepper and server.old_peppers", Kind.RING: "server.key_ring"}
_NAMES: Mapping[Kind, Callable[[bytes], str]] = {Kind.PEPPER: pepper_id, Kind.RING: ring_key_id}


@dataclass(frozen=True, slots=True)
class SecretRow:
    """One secret by its id: whether it is in force, whether this node has it, and how much was made under it."""

    kind: Kind
    id: str
    in_force: bool
    here: bool
    uses: int


async def report(config: ServerConfig, now: datetime) -> list[SecretRow]:
    """Return every secret that the node has or the database needs; changes nothing. Raises StartupError."""
    kept = read_secrets(config)
    async with _reading(config) as connection:
        used = {Kind.PEPPER: await peppers_in_use(connection, now), Kind.RING: await ring_keys_in_use(connection)}
    rows = []
    for kind, have in ((Kind.PEPPER, kept.peppers), (Kind.RING, kept.ring)):
        ids = [_NAMES[kind](one) for one in have]
        rows += [SecretRow(kind, one, one == ids[0], True, used[kind].get(one, 0)) for one in ids]
        rows += [SecretRow(kind, one, False, False, count) for one, count in used[kind].items() if one not in ids]
    return rows


def rotate(config: ServerConfig, kind: Kind) -> str:
    """Put a new secret in force and keep those before it; return its id. It counts from the next start of the node.

    Raises StartupError where the secret is by reference, elsewhere.
    """
    have = _of_directory(config, kind)
    fresh = secrets.token_bytes(PEPPER_BYTES)
    replace_secrets(config.data_dir / _FILES[kind], [fresh, *have])
    return _NAMES[kind](fresh)


async def prune(config: ServerConfig, kind: Kind, now: datetime) -> Sequence[str]:
    """Remove secrets that are not in force and under which nothing is left; return their ids. Raises StartupError."""
    have = _of_directory(config, kind)
    uses = {row.id: row.uses for row in await report(config, now) if row.kind is kind}
    name = _NAMES[kind]
    kept = [one for place, one in enumerate(have) if place == 0 or uses[name(one)]]
    gone = [name(one) for one in have if one not in kept]
    if gone:
        replace_secrets(config.data_dir / _FILES[kind], kept)
    return gone


def _of_directory(config: ServerConfig, kind: Kind) -> tuple[bytes, ...]:
    referenced = config.pepper if kind is Kind.PEPPER else config.key_ring
    if referenced:
        raise StartupError(
            f"The {kind} is by reference: put the new secret first in {_SETTINGS[kind]} and keep the old one behind it "
            "on every node; see docs/operations/secrets.md."
        )
    if not (config.data_dir / _FILES[kind]).exists():
        raise StartupError(f"There is no {kind} in {config.data_dir} yet; it is made when the node starts first.")
    kept = read_secrets(config)
    return kept.peppers if kind is Kind.PEPPER else kept.ring


@asynccontextmanager
async def _reading(config: ServerConfig) -> AsyncIterator[AsyncConnection]:
    """Give a connection that reads, also while nodes run on the database."""
    if config.database_url is not None:
        database = await Database.connect_postgresql(config.database_url.get_secret_value())
        try:
            async with database.transaction() as connection:
                yield connection
        finally:
            await database.close()
        return
    engine = sqlite.make_reader(_database_file(config))
    try:
        async with engine.connect() as connection:
            yield connection
    finally:
        await engine.dispose()


def _database_file(config: ServerConfig) -> Path:
    file = config.data_dir / DATABASE_FILE
    if not file.exists():
        raise StartupError(f"There is no database in {config.data_dir} yet; it is made when the node starts first.")
    return file
