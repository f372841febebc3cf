"""Where a node keeps its data: opens the database of its configuration, and holds the lease on one that is shared."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

from tokendance.ids import new_id
from tokendance_server.config import ServerConfig
from tokendance_server.domain.clock import Clock
from tokendance_server.domain.keys.secrets import PepperRing
from tokendance_server.domain.sealing import KeyRing
from tokendance_server.references import resolve_pepper
from tokendance_server.startup import StartupError
from tokendance_server.stores.errors import StoreUnavailableError
from tokendance_server.stores.migrations.state import running_version
from tokendance_server.stores.paths import PEPPER_FILE, RING_FILE, DataDirectory, NodeSecrets, kept_secrets
from tokendance_server.stores.sql.database import Database
from tokendance_server.stores.sql.leases import NodeLease
from tokendance_server.stores.sql.peppers import check_peppers, check_ring


class Storage:
    """An open database and, where others could serve it too, the lease that says that this node may."""

    def __init__(self, database: Database, lease: NodeLease | None) -> None:
        self.database = database
        self._lease = lease
        self._keeping = None if lease is None else asyncio.create_task(lease.keep(), name="node lease")

    @property
    def may_serve(self) -> bool:
        """True while no other node can have taken over."""
        return self._lease is None or self._lease.held

    @property
    def live_nodes(self) -> Sequence[str]:
        """The ids of the nodes that serve this database, as this one knew last; none where no other could."""
        return [] if self._lease is None else self._lease.live

    def when_lost(self, act: Callable[[], None]) -> None:
        """Call `act` once this node may serve no more until it is started again."""
        if self._keeping is not None:
            self._keeping.add_done_callback(lambda task: None if task.cancelled() else act())

    async def close(self) -> None:
        """Give the lease back and close the connections."""
        if self._lease is not None and self._keeping is not None:
            self._keeping.cancel()
            await asyncio.wait([self._keeping])
            await self._lease.release()
        await self.database.close()


def open_directory(config: ServerConfig) -> DataDirectory:
    """Take the data directory, and the secrets from where the configuration says. Raises StartupError."""
    told = _resolve(config)
    return DataDirectory.open(
        config.data_dir, peppers=told.peppers, ring=told.ring, own_database=config.database_url is None
    )


def read_secrets(config: ServerConfig) -> NodeSecrets:
    """Return the secrets that a node on this configuration has, without taking its directory. Raises StartupError."""
    told = _resolve(config)
    return NodeSecrets(
        told.peppers or kept_secrets(config.data_dir / PEPPER_FILE),
        told.ring or kept_secrets(config.data_dir / RING_FILE),
    )


def _resolve(config: ServerConfig) -> NodeSecrets:
    peppers = _resolve_all(config, "server.pepper", [config.pepper] if config.pepper else [])
    older = _resolve_all(config, "server.old_peppers", config.old_peppers)
    if older and not peppers:
        raise StartupError("server.old_peppers needs server.pepper, the pepper that is in force.")
    return NodeSecrets((*peppers, *older), tuple(_resolve_all(config, "server.key_ring", config.key_ring)))


def _resolve_all(config: ServerConfig, setting: str, references: Sequence[str]) -> list[bytes]:
    try:
        return [resolve_pepper(one, secrets_dir(config.data_dir)) for one in references]
    except ValueError as exc:
        raise StartupError(f"A secret of {setting} cannot be used: {exc}.") from exc


def secrets_dir(data_dir: Path) -> Path:
    """Return the folder below which references to files are resolved."""
    return data_dir / "secrets"


async def open_storage(
    config: ServerConfig, directory: DataDirectory, peppers: PepperRing, ring: KeyRing, clock: Clock
) -> Storage:
    """Open the database, whose schema and secrets must be this node's, and take the lease where it is shared.

    Raises StartupError: one line that says what is wrong and what to do.
    """
    if config.redis_url is not None:
        # Its client is loaded where there is one to be asked: a node of its own has none.
        from tokendance_server.stores.redis import check_redis

        await check_redis(config.redis_url.get_secret_value())
    async with AsyncExitStack() as undo:
        if config.database_url is None:
            database = await Database.open_sqlite(directory.database)
        else:
            database = await Database.open_postgresql(config.database_url.get_secret_value())
        undo.push_async_callback(database.close)
        try:
            await check_peppers(database, peppers.checks, clock.now())
            await check_ring(database, ring.checks, clock.now())
            lease = None
            if database.is_shared:
                lease = NodeLease(
                    database,
                    node_id=directory.node_id,
                    run_id=new_id("run"),
                    code_version=running_version(),
                    shared=config.redis_url is not None,
                    monotonic=clock.monotonic,
                )
                await lease.acquire()
        except StoreUnavailableError as exc:
            raise StartupError(f"The database {database.place} cannot be used ({exc}); try again.") from exc
        undo.pop_all()
    return Storage(database, lease)
