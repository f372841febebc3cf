"""The nodes service, wired: what this node can say of itself, and where it writes it."""

from __future__ import annotations

import os
import resource
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from tokendance.ids import new_id
from tokendance_server.domain.catalogue.in_force import Catalogue
from tokendance_server.domain.changes import Watcher
from tokendance_server.domain.clock import Clock
from tokendance_server.domain.keys.secrets import PepperRing
from tokendance_server.domain.nodes.roster import JournalDepth, NodeState, Report, Role, Roster
from tokendance_server.domain.page_tokens import PageTokens
from tokendance_server.quota import QuotaParts
from tokendance_server.services.admission import Admission
from tokendance_server.services.loop_lag import LoopLag
from tokendance_server.storage import Storage
from tokendance_server.stores.migrations.state import running_version
from tokendance_server.stores.redis_counters import RedisCounters
from tokendance_server.stores.sql.changes import SqlChangeFeed
from tokendance_server.stores.sql.nodes import SqlNodeStore
from tokendance_server.telemetry import logger
from tokendance_server.usage import UsageParts

_STATM = Path("/proc/self/statm")
_OPEN_FILES = Path("/proc/self/fd")


@dataclass(slots=True)
class NodeLook:
    """Everything on a node that it says of itself. `has_facade` is set once the facade runs in the same process."""

    clock: Clock
    watcher: Watcher
    catalogue: Catalogue
    admission: Admission
    lag: LoopLag
    storage: Storage
    usage: UsageParts
    quota: QuotaParts
    run_id: str = field(default_factory=lambda: new_id("run"))
    has_facade: bool = False
    start_time: datetime = field(init=False)

    def __post_init__(self) -> None:
        self.start_time = self.clock.now()

    def __call__(self) -> Report:
        """Return how the node is now."""
        state, reason = self._state()
        counters = self.quota.counters
        shared = isinstance(counters, RedisCounters)
        return Report(
            run_id=self.run_id,
            hostname=socket.gethostname()[:255],
            roles=(Role.SERVER, Role.FACADE) if self.has_facade else (Role.SERVER,),
            state=state,
            reason=reason,
            version=running_version(),
            start_time=self.start_time,
            report_time=self.clock.now(),
            config_version=self.watcher.position,
            catalog_version=self.catalogue.serving.catalog.version,
            config_age_s=min(self.watcher.age_s, (self.clock.now() - self.start_time).total_seconds()),
            loop_lag_s=self.lag.worst_s(),
            running_requests=self.admission.running,
            running_streams=self.admission.running_streams,
            resident_bytes=_resident_bytes(),
            open_files=_open_files(),
            journal=self._journal(),
            quota_store="shared" if shared else "memory",
            quota_store_latency_s=counters.latency_s() if isinstance(counters, RedisCounters) else None,
        )

    def _state(self) -> tuple[NodeState, str]:
        if not self.storage.may_serve:
            return NodeState.NOT_READY, "It lost its lease on the database and serves no more; its log says why."
        if self.admission.draining:
            return NodeState.DRAINING, "It ends: what runs may finish, and nothing new is taken."
        if not self.watcher.healthy:
            return NodeState.NOT_READY, "It cannot read what other nodes change; see whether its database answers."
        return NodeState.READY, ""

    def _journal(self) -> JournalDepth:
        ledger, journal = self.usage.ledger, self.usage.journal
        oldest = ledger.oldest_waiting_us()
        return JournalDepth(
            pending_entries=ledger.backlog,
            open_entries=journal.running,
            size_bytes=journal.size,
            max_bytes=journal.capacity,
            oldest_pending_s=None if oldest is None else max(ledger.now_us() - oldest, 0) / 1e6,
        )


@dataclass(frozen=True, slots=True)
class NodeParts:
    """What tells of nodes. The roster must be started."""

    roster: Roster
    newest: Callable[[], Awaitable[int]]
    tokens: PageTokens


def open_nodes(look: NodeLook, peppers: PepperRing) -> NodeParts:
    """Wire it."""
    database = look.storage.database
    feed = SqlChangeFeed(database)

    async def newest() -> int:
        latest = await feed.latest()
        return 0 if latest is None else latest.number

    roster = Roster(SqlNodeStore(database), look, look.clock, _tell)
    return NodeParts(roster, newest, PageTokens(peppers.derive("page tokens of nodes")))


def _resident_bytes() -> int:
    """Return the memory in use; where the system does not tell it, the most that ever was."""
    try:
        return int(_STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _open_files() -> int:
    """Return how many files are open, 0 where the system does not tell."""
    try:
        return sum(1 for _ in _OPEN_FILES.iterdir())
    except OSError:
        return 0


def _tell(error: Exception | None) -> None:
    if error is None:
        logger().info("node_reported_again")
    else:
        logger().error("node_not_reported", error=type(error).__name__, detail=str(error))
