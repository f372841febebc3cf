"""The keys of a node, wired: their rules, their verifier, and the watcher that tells what other nodes changed."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import errors_pb2
from tokendance_server.config import ServerConfig
from tokendance_server.domain.audit.heads import HeadVerifier
from tokendance_server.domain.audit.trail import Trail
from tokendance_server.domain.changes import ChangeKind, Watcher
from tokendance_server.domain.clock import Clock
from tokendance_server.domain.identity.standing import Standing
from tokendance_server.domain.keys.keys import Keys
from tokendance_server.domain.keys.last_use import LastUses
from tokendance_server.domain.keys.life import KeyLife
from tokendance_server.domain.keys.requests import KeyRequests
from tokendance_server.domain.keys.running import RunningStreams
from tokendance_server.domain.keys.secrets import PepperRing
from tokendance_server.domain.keys.verifier import Verifier
from tokendance_server.domain.organizations import Organizations
from tokendance_server.domain.page_tokens import PageTokens
from tokendance_server.domain.people.desk import People, build_people
from tokendance_server.stores.errors import StoreUnavailableError
from tokendance_server.stores.sql.audit import SqlAuditStore
from tokendance_server.stores.sql.changes import SqlChangeFeed
from tokendance_server.stores.sql.database import Database
from tokendance_server.stores.sql.key_requests import SqlKeyRequestStore
from tokendance_server.stores.sql.keys import SqlKeyStore
from tokendance_server.stores.sql.organizations import SqlOrganizationStore
from tokendance_server.stores.sql.people import SqlPeopleStore
from tokendance_server.stores.sql.usage import SqlUsageStore
from tokendance_server.telemetry import logger


@dataclass(frozen=True, slots=True)
class Governance:
    """What governs who may call. The watcher must run: without it the verifier lets nobody in."""

    organizations: Organizations
    keys: Keys
    life: KeyLife
    verifier: Verifier
    streams: RunningStreams
    watcher: Watcher
    people: People
    trail: Trail
    requests: KeyRequests
    uses: LastUses


def build_governance(
    config: ServerConfig, database: Database, peppers: PepperRing, clock: Clock, signing_key: HeadVerifier | None = None
) -> Governance:
    """Wire what governs keys on a database. Signatures under `signing_key` are checked where the trail is."""
    store = SqlKeyStore(database)
    organizations = Organizations(SqlOrganizationStore(database), clock)
    watcher = Watcher(SqlChangeFeed(database), clock, _tell_sight, stale_after_s=config.changes_stale_after_s)
    uses = LastUses(store, clock, _tell_uses)
    people_store = SqlPeopleStore(database)

    async def excluded_tags(organization_id: str) -> Collection[str]:
        try:
            return (await people_store.policy(organization_id)).excluded_route_tags
        except StoreUnavailableError as exc:
            raise GatewayError(
                errors_pb2.ERROR_REASON_KEY_STORE_UNAVAILABLE, "Keys cannot be looked up now; try again."
            ) from exc

    verifier = Verifier(
        store,
        peppers,
        clock,
        lambda: watcher.healthy,
        cache_size=config.key_cache_size,
        cache_s=config.key_cache_s,
        organization_works=organizations.works,
        excluded_tags=excluded_tags,
        uses=uses,
    )
    streams = RunningStreams(Standing(verifier, organizations), _tell_unseen_key)
    for listener in (verifier, streams):
        watcher.subscribe(ChangeKind.KEY, listener)
        watcher.subscribe(ChangeKind.ORGANIZATION, listener)
    watcher.subscribe(ChangeKind.POLICY, verifier)
    watcher.subscribe(ChangeKind.MEMBER, streams)
    keys = Keys(store, organizations, peppers, clock, verifier.forget, policy=people_store.policy)
    life = KeyLife(keys, store, organizations, peppers, clock, changed=verifier.forget)
    people = build_people(people_store, peppers, clock, verifier, SqlUsageStore(database))
    trail = Trail(SqlAuditStore(database), clock, PageTokens(peppers.derive("page tokens")), signing_key)
    requests = KeyRequests(SqlKeyRequestStore(database), peppers, clock, changed=verifier.forget)
    return Governance(organizations, keys, life, verifier, streams, watcher, people, trail, requests, uses)


def _tell_sight(error: Exception | None) -> None:
    if error is None:
        logger().info("changes_seen_again")
    else:
        logger().warning("changes_not_seen", error=type(error).__name__, detail=str(error))


def _tell_uses(error: Exception | None) -> None:
    if error is None:
        logger().info("key_uses_written_again")
    else:
        logger().warning("key_uses_not_written", error=type(error).__name__, detail=str(error))


def _tell_unseen_key(error: Exception) -> None:
    logger().error("key_of_streams_not_read", error=type(error).__name__, detail=str(error))
