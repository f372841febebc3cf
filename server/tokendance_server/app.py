"""The composition root: the only place that names concrete stores, providers and listeners, and joins them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack

from prometheus_client import CollectorRegistry

from tokendance_server.auditing import open_asides, open_stream, open_verifier
from tokendance_server.catalogue import (
    NodeUpstreams,
    check_buildable,
    open_catalogue,
    read_settings,
)
from tokendance_server.catalogue_settings import ModelSettings, ProviderSettings
from tokendance_server.config import ServerConfig
from tokendance_server.domain.catalogue.models import ProviderConfig
from tokendance_server.domain.catalogue.seals import ProviderSeals
from tokendance_server.domain.clock import SystemClock
from tokendance_server.domain.completions import Completions
from tokendance_server.domain.egress import EgressPolicy
from tokendance_server.domain.keys.failures import FailedSignIns
from tokendance_server.domain.keys.key import KeyDraft, KeyQuota
from tokendance_server.domain.keys.keys import Keys
from tokendance_server.domain.keys.secrets import PepperRing
from tokendance_server.domain.metering import Meter
from tokendance_server.domain.organizations import Organizations
from tokendance_server.domain.quota.service_reservations import ServiceReservations
from tokendance_server.domain.sealing import KeyRing
from tokendance_server.domain.sessions.sessions import Sessions
from tokendance_server.doors import build_listeners, make_chains
from tokendance_server.governance import build_governance
from tokendance_server.identity import open_identity, sign_ins_maker
from tokendance_server.nodes import NodeLook, open_nodes
from tokendance_server.prices import open_prices
from tokendance_server.providers.drainer import Drainer
from tokendance_server.providers.transport import open_transport
from tokendance_server.quota import SharedCounters, build_quota, tell_counters
from tokendance_server.registration import register
from tokendance_server.replay import build_replays
from tokendance_server.routing import build_routing
from tokendance_server.server import FirstKey, Server
from tokendance_server.services.admission import Admission
from tokendance_server.services.call import Trust
from tokendance_server.services.credentials import LOCAL_OPERATOR
from tokendance_server.services.doorkeeper import Doorkeeper
from tokendance_server.services.local_channel import LocalChannel
from tokendance_server.services.loop_lag import LoopLag
from tokendance_server.status import open_status
from tokendance_server.storage import Storage, open_directory, open_storage, secrets_dir
from tokendance_server.stores.paths import DataDirectory
from tokendance_server.stores.sql.catalogue import SqlCatalogueStore
from tokendance_server.stores.sql.reservations import SqlReservationStore
from tokendance_server.stores.sql.sessions import SqlSessionStore
from tokendance_server.telemetry import DrainedAnswers, logger, show_loop_lag
from tokendance_server.usage import open_usage
from tokendance_server.webhooks import open_webhooks

_FIRST_ROTATION_S = 90 * 86_400


async def open_server(
    config: ServerConfig,
    *,
    providers: Sequence[ProviderSettings] = (),
    models: Sequence[ModelSettings] = (),
    registry: CollectorRegistry,
    loopback_only: bool = False,
) -> Server:
    """Open the data directory, bring its schema up to date, and wire everything. Nothing listens yet.

    `loopback_only` tells that the whole node is in this process and listens on loopback only, its facade included.
    Raises StartupError: one line that says what is wrong and what to do.
    """
    directory = open_directory(config)
    async with AsyncExitStack() as undo:
        undo.callback(directory.close)
        clock = SystemClock()
        peppers, ring = PepperRing.of(*directory.secrets.peppers), KeyRing(directory.secrets.ring)
        storage = await open_storage(config, directory, peppers, ring, clock)
        undo.push_async_callback(storage.close)
        governance = build_governance(config, storage.database, peppers, clock, open_verifier(config))
        egress = config.egress.policy(loopback_only=loopback_only)
        configured, layer = read_settings(providers, models, secrets_dir(directory.path), egress, clock.now())
        _tell_egress(egress, configured)
        transport = open_transport(config.upstream_client, egress, answer_bytes=config.limits.upstream_answer_bytes)
        undo.push_async_callback(transport.close)
        upstreams = NodeUpstreams(
            secrets_dir(directory.path), egress, transport, ProviderSeals(ring), config.limits.upstream_event_bytes
        )
        check_buildable(configured, upstreams)
        parts = await open_catalogue(SqlCatalogueStore(storage.database), layer, upstreams, governance.watcher, clock)
        if count := await parts.editor.reseal():
            logger().info("credentials_resealed", count=count)
        identity = open_identity(
            config,
            directory.path,
            egress,
            clock,
            loopback_only=loopback_only,
            make_sign_ins=sign_ins_maker(storage.database, governance, clock),
        )
        undo.push_async_callback(identity.close)
        bounds = config.draining
        drainer = Drainer(
            DrainedAnswers(registry), count=bounds.count, answer_bytes=bounds.answer_bytes, seconds=bounds.seconds
        )
        undo.push_async_callback(drainer.close)
        usage = open_usage(
            config.usage,
            directory.path,
            directory.node_id,
            storage.database,
            peppers=peppers,
            clock=clock,
            registry=registry,
        )
        undo.push_async_callback(usage.close)
        prices = await open_prices(
            storage.database, governance.watcher, peppers, lambda: parts.catalogue.serving.catalog.models, clock
        )
        shared = _shared_counters(config, directory, storage)
        kept = SqlReservationStore(storage.database, usage.store, clock)
        quota = build_quota(
            storage.database, governance.watcher, peppers, clock, registry, spent=usage.spent, kept=kept, shared=shared
        )
        webhooks = await open_webhooks(
            storage.database,
            ring,
            egress,
            peppers,
            clock=clock,
            registry=registry,
            watch=quota.thresholds.watch,
        )
        quota.crossings.then = webhooks.sender
        meter = Meter(usage.ledger, usage.estimates, prices.book, quota.reservations)
        routing = build_routing(config, lambda: parts.catalogue.serving, clock, registry, directory.node_id)
        completions = Completions(
            lambda: parts.catalogue.serving,
            clock,
            meter,
            routing.router,
            drainer if config.draining.after_leaving else None,
            caps=routing.caps,
        )
        replays = build_replays(config, storage.database, governance.watcher, completions, meter=meter, clock=clock)
        reservations = ServiceReservations(
            kept,
            quota.limits,
            quota.counters,
            keys=governance.verifier,
            find_model=lambda name, holder: parts.catalogue.serving.catalog.find(name, holder).id,
            prices=prices.book,
            ledger=usage.ledger,
            clock=clock,
            report=tell_counters,
        )
        admission, lag = _open_admission(config, registry)
        look = NodeLook(clock, governance.watcher, parts.catalogue, admission, lag, storage, usage, quota)
        status = await open_status(
            storage.database,
            governance.watcher,
            parts.catalogue,
            ledger=usage.ledger,
            health=routing.router,
            peppers=peppers,
            run_id=look.run_id,
            clock=clock,
            registry=registry,
        )
        nodes = open_nodes(look, peppers)
        handlers = register(
            completions,
            replays,
            governance,
            parts,
            quota,
            usage=usage,
            prices=prices,
            reservations=reservations,
            webhooks=webhooks,
            sessions=Sessions(
                SqlSessionStore(storage.database),
                identity.source,
                identity.check,
                ring,
                clock,
                limits=config.identity.console.limits(),
            ),
            status=status,
            nodes=nodes,
            clock=clock,
        )
        asides = open_asides(storage.database, clock, registry)
        stream = open_stream(config, storage.database, clock, registry)
        chain = make_chains(
            config,
            admission,
            parts.catalogue,
            registry,
            verifier=governance.verifier,
            sign_in=identity.sign_in,
            streams=governance.streams,
            asides=asides,
            doorkeeper=Doorkeeper(usage.turned_away, FailedSignIns(config.limits.failed_sign_ins_per_minute, clock)),
        )
        # Before the first key is made: certificates that cannot be used must not lose it.
        listeners = build_listeners(config, directory, handlers, chain, clock)
        server = Server(
            first_key=await _make_first_key(governance.organizations, governance.keys),
            listeners=listeners,
            channel=LocalChannel(
                {method: chain(Trust.FACADE, None).wrap(method, handler) for method, handler in handlers.items()},
                max_message_bytes=config.limits.grpc_message_bytes,
                max_metadata_bytes=config.limits.grpc_metadata_bytes,
            ),
            admission=admission,
            lag=lag,
            watcher=governance.watcher,
            streams=governance.streams,
            background=[
                replays,
                routing.caps,
                routing.probes,
                *([routing.shared] if routing.shared is not None else []),
                governance.uses,
                quota.reservations,
                prices.followed,
                asides,
                stream,
                webhooks.sender,
                status.board,
                nodes.roster,
            ],
            look=look,
            board=status.board,
            usage=usage,
            catalogue=parts.catalogue,
            transport=transport,
            drainer=drainer,
            identity=identity,
            directory=directory,
            storage=storage,
        )
        storage.when_lost(admission.drain)
        undo.pop_all()
        return server


def _open_admission(config: ServerConfig, registry: CollectorRegistry) -> tuple[Admission, LoopLag]:
    lag = LoopLag(config.limits.loop_lag_s)
    show_loop_lag(registry, lambda: lag.seconds)
    return Admission(config.limits.in_flight, lag), lag


def _shared_counters(config: ServerConfig, directory: DataDirectory, storage: Storage) -> SharedCounters | None:
    if config.redis_url is None:
        return None
    own = directory.node_id
    return SharedCounters(config.redis_url.get_secret_value(), own, lambda: storage.live_nodes or [own])


def _tell_egress(egress: EgressPolicy, configured: Mapping[str, ProviderConfig]) -> None:
    """Log what the node may reach besides public addresses, where it reaches anything at all."""
    if any(one.base_url for one in configured.values()) and (egress.allow_loopback or egress.allowed_private):
        networks = [str(network) for network in egress.allowed_private]
        logger().info("egress_opened", loopback=egress.allow_loopback, private=networks)


async def _make_first_key(organizations: Organizations, keys: Keys) -> FirstKey | None:
    """Make an organization and a key on a node that has none, so that it can be called at once."""
    names = await organizations.bootstrap()
    if names is None:
        return None
    draft = KeyDraft(
        purpose="First key of this node, to try it out",
        owner=names.member,
        team=names.team,
        quota=KeyQuota(inherited_from=names.organization),
        rotation_period_s=_FIRST_ROTATION_S,
        responsible=names.member,
    )
    key, secret = await keys.create(LOCAL_OPERATOR, names.organization, draft)
    return FirstKey(names.display_name, key.name, secret)
