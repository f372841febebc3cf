"""The lease of a node on a database that others could use: without Redis one node serves it, and never two.

Counters of one node live in its own memory; a second one beside it would let callers spend twice.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import DateTime, Row, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from tokendance_server.startup import StartupError
from tokendance_server.stores.errors import StoreUnavailableError
from tokendance_server.stores.migrations.state import is_older
from tokendance_server.stores.sql.database import ConflictError, Database
from tokendance_server.stores.sql.tables import node_leases, schema_info
from tokendance_server.telemetry import logger

LEASE_S = 15.0
RENEW_S = 3.0
# The database's own clock, as it is now and not as it was when the transaction began: nodes' clocks differ.
_NOW = func.clock_timestamp(type_=DateTime(timezone=True))


@dataclass(frozen=True, slots=True)
class Holder:
    """A node that serves the database: who, since when, and for how many seconds it said nothing."""

    node_id: str
    code_version: str
    shared: bool
    start_time: datetime
    silent_s: float


class NodeLease:
    """The lease of one run of a node. `acquire` takes it, `keep` renews it until cancelled, `release` gives it back.

    `shared` nodes have Redis between them and serve beside each other. `monotonic` is in seconds.
    """

    def __init__(
        self,
        database: Database,
        *,
        node_id: str,
        run_id: str,
        code_version: str,
        shared: bool,
        monotonic: Callable[[], float],
        lease_s: float = LEASE_S,
        renew_s: float = RENEW_S,
    ) -> None:
        self._database = database
        self._node_id = node_id
        self._run_id = run_id
        self._code_version = code_version
        self._shared = shared
        self._monotonic = monotonic
        self._lease_s = lease_s
        self._renew_s = renew_s
        self._held_until = 0.0
        self._lost = False
        self._live: list[str] = [node_id]

    @property
    def live(self) -> list[str]:
        """The ids of the nodes that served when this one renewed its lease last, its own included."""
        return self._live

    @property
    def held(self) -> bool:
        """True while this node may serve. Over by itself where the lease could not be renewed in time."""
        return not self._lost and self._monotonic() < self._held_until

    async def acquire(self) -> None:
        """Take the lease, also from an earlier run of this node and from nodes whose own is over.

        Raises StartupError where another node serves the database, StoreUnavailableError.
        """
        asked = self._monotonic()
        async with self._database.transaction() as connection:
            await self._database.lock(connection, "node leases")
            await connection.execute(
                node_leases.delete().where(
                    (node_leases.c.node_id == self._node_id) | (node_leases.c.expire_time <= _NOW)
                )
            )
            refuse_taken(self._database.place, await _holders(connection), shared=self._shared)
            row: dict[str, Any] = {
                "node_id": self._node_id,
                "run_id": self._run_id,
                "code_version": self._code_version,
                "shared": self._shared,
                "start_time": _NOW,
                "renew_time": _NOW,
                "expire_time": _NOW + timedelta(seconds=self._lease_s),
            }
            await connection.execute(node_leases.insert().values(row))
            self._live = [one.node_id for one in await _holders(connection)]
        self._held_until = asked + self._lease_s

    async def keep(self) -> None:
        """Renew the lease until cancelled. Returns when it is lost for good, and says so in the log."""
        while not self._lost:
            await asyncio.sleep(self._renew_s)
            try:
                async with asyncio.timeout(self._lease_s / 2):
                    await self._renew()
            except (StoreUnavailableError, ConflictError, TimeoutError) as exc:
                logger().warning("lease_not_renewed", node=self._node_id, serving=self.held, reason=str(exc))

    async def release(self) -> None:
        """Let another node have the database at once; where that cannot be said, when the lease is over."""
        self._lost = True
        with contextlib.suppress(StoreUnavailableError, TimeoutError):
            async with asyncio.timeout(self._renew_s), self._database.transaction() as connection:
                await connection.execute(node_leases.delete().where(*self._own()))

    async def _renew(self) -> None:
        asked = self._monotonic()
        async with self._database.transaction() as connection:
            oldest = (await connection.execute(select(schema_info.c.oldest_code_version))).scalar_one()
            renewed = await connection.execute(
                node_leases.update()
                .where(*self._own())
                .values(renew_time=_NOW, expire_time=_NOW + timedelta(seconds=self._lease_s))
            )
            holder = await connection.scalar(select(node_leases.c.run_id).where(node_leases.c.node_id == self._node_id))
            self._live = [one.node_id for one in await _holders(connection)]
        if is_older(self._code_version, oldest):
            self._lose(f"the schema was migrated and serves version {oldest} or newer; start that one")
        elif renewed.rowcount:
            self._held_until = asked + self._lease_s
        elif holder is not None:
            self._lose("another one was started on a copy of its data directory; give each node one of its own")
        elif self._shared:
            await self._acquire_again()
        else:
            self._lose("another one took over while it did not answer; stop one of them")

    async def _acquire_again(self) -> None:
        try:
            await self.acquire()
        except StartupError as exc:
            self._lose(str(exc).rstrip("."))

    def _lose(self, reason: str) -> None:
        self._lost = True
        logger().error("lease_lost", node=self._node_id, reason=f"This node serves no more: {reason}.")

    def _own(self) -> tuple[Any, Any]:
        return node_leases.c.node_id == self._node_id, node_leases.c.run_id == self._run_id


def refuse_taken(place: str, others: Iterable[Holder], *, shared: bool) -> None:
    """Raise StartupError where one of the other nodes leaves no room for one that is `shared` or not."""
    for other in others:
        found = f"The database {place} is served by the node {other.node_id} (seen {other.silent_s:.0f} s ago)"
        if not shared:
            raise StartupError(
                f"{found}, and without Redis one node serves a database; stop that one, "
                "or give every node the same server.redis_url."
            )
        if not other.shared:
            raise StartupError(
                f"{found}, which has no Redis and counts by itself; restart it with server.redis_url first."
            )


async def holders(database: Database) -> list[Holder]:
    """Return the nodes that serve the database now, by id. Raises StoreUnavailableError."""
    async with database.read() as connection:
        return await _holders(connection)


async def _holders(connection: AsyncConnection) -> list[Holder]:
    query = (
        select(node_leases, func.extract("epoch", _NOW - node_leases.c.renew_time).label("silent_s"))
        .where(node_leases.c.expire_time > _NOW)
        .order_by(node_leases.c.node_id)
    )
    return [_holder(row) for row in (await connection.execute(query)).all()]


def _holder(row: Row[Any]) -> Holder:
    return Holder(row.node_id, row.code_version, row.shared, row.start_time, float(row.silent_s))
