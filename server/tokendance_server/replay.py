"""Idempotency keys on a node, wired: what keeps answers, for how long, and what ends it."""

from __future__ import annotations

from tokendance_server.config import ServerConfig
from tokendance_server.domain.changes import ChangeKind, Watcher
from tokendance_server.domain.clock import Clock
from tokendance_server.domain.completions import Completions
from tokendance_server.domain.metering import Meter
from tokendance_server.domain.replay.claims import Claims, Keeping
from tokendance_server.domain.replay.replays import Replays
from tokendance_server.domain.replay.running import Bounds
from tokendance_server.domain.replay.store import ReplaysUnavailableError
from tokendance_server.stores.errors import StoreUnavailableError
from tokendance_server.stores.sql.database import Database
from tokendance_server.stores.sql.people import SqlPeopleStore
from tokendance_server.stores.sql.replays import SqlReplayStore
from tokendance_server.telemetry import logger


def build_replays(
    config: ServerConfig, database: Database, watcher: Watcher, completions: Completions, *, meter: Meter, clock: Clock
) -> Replays:
    """Wire it on a database. It must run, so that claims of long calls are held and old answers go."""
    people = SqlPeopleStore(database)

    async def disabled(organization_id: str) -> bool:
        try:
            return (await people.policy(organization_id)).replay_disabled
        except StoreUnavailableError as exc:
            raise ReplaysUnavailableError(str(exc)) from exc

    told = config.replay
    keeping = Keeping(told.answer_bytes, told.keep_s, told.answers_per_key, told.wait_s)
    claims = Claims(SqlReplayStore(database), clock, disabled, _tell, keeping)
    watcher.subscribe(ChangeKind.KEY, claims)
    watcher.subscribe(ChangeKind.POLICY, claims)
    bounds = Bounds(config.draining.count, config.draining.seconds)
    return Replays(completions, meter, claims, _tell, keeping=keeping, bounds=bounds)


def _tell(error: BaseException) -> None:
    logger().error("replay_failed", error=type(error).__name__, detail=str(error))
