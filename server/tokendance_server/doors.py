"""The doors of a node: the chain of interceptors before every RPC, and the listeners that lead to it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import grpc
import grpc.aio
from prometheus_client import CollectorRegistry

from tokendance_server.certificates import server_credentials
from tokendance_server.config import ServerConfig
from tokendance_server.domain.audit.asides import Asides
from tokendance_server.domain.catalogue.in_force import Catalogue
from tokendance_server.domain.clock import Clock
from tokendance_server.domain.keys.running import RunningStreams
from tokendance_server.domain.keys.verifier import Verifier
from tokendance_server.listeners import Listener, by_service, is_loopback
from tokendance_server.registration import FILES
from tokendance_server.services.access import read_rules
from tokendance_server.services.admission import Admission
from tokendance_server.services.call import Trust
from tokendance_server.services.doorkeeper import Doorkeeper
from tokendance_server.services.facade_peers import FacadePeers
from tokendance_server.services.interceptors import Chain, DeadlinePolicy
from tokendance_server.services.records import Recorder
from tokendance_server.services.service_peers import ServicePeers, service_principal
from tokendance_server.services.sign_in import SignIn
from tokendance_server.services.violations import LateValidator
from tokendance_server.services.witness import Witness
from tokendance_server.stores.paths import DataDirectory
from tokendance_server.telemetry import Metrics

MakeChain = Callable[[Trust, FacadePeers | ServicePeers | None], Chain]
"""Returns the chain of a listener: how far its callers are trusted, and whom it knows by their certificates."""


def make_chains(
    config: ServerConfig,
    admission: Admission,
    catalogue: Catalogue,
    registry: CollectorRegistry,
    *,
    verifier: Verifier,
    sign_in: SignIn,
    streams: RunningStreams,
    asides: Asides,
    doorkeeper: Doorkeeper,
) -> MakeChain:
    """Return what makes the chain of one listener; what they share is made once."""
    rules = read_rules(FILES)
    public = {method: rule for method, rule in rules.items() if rule.public_listener}
    recorder = Recorder(Metrics(registry), catalogue.has)
    validator = LateValidator()
    witness = Witness(asides, rules)
    limits = config.deadlines
    deadlines = DeadlinePolicy(
        limits.unary_s, limits.stream_s, limits.admin_s, limits.margin_s, limits.write_stall_s, limits.receive_s
    )

    @functools.cache
    def chain(trust: Trust, peers: FacadePeers | ServicePeers | None) -> Chain:
        return Chain(
            trust,
            rules=public if trust is Trust.PUBLIC else rules,
            keys=verifier,
            sign_in=sign_in,
            admission=admission,
            deadlines=deadlines,
            recorder=recorder,
            validator=validator,
            metadata_bytes=2 * config.limits.grpc_metadata_bytes,
            peers=peers if isinstance(peers, FacadePeers) else None,
            services=peers if isinstance(peers, ServicePeers) else None,
            streams=streams,
            witness=witness,
            doorkeeper=doorkeeper,
        )

    return chain


def build_listeners(
    config: ServerConfig,
    directory: DataDirectory,
    handlers: Mapping[str, grpc.RpcMethodHandler[Any, Any]],
    chain: MakeChain,
    clock: Clock,
) -> list[Listener]:
    """Return what the configuration opens, the TCP port first. Raises StartupError for certificates of no use."""
    services, limits = by_service(handlers), config.limits
    operator, facade = chain(Trust.OPERATOR, None), chain(Trust.FACADE, None)
    listeners = [
        Listener(f"unix:{directory.admin_socket}", operator, services, limits, reflect=True),
        Listener(f"unix:{directory.facade_socket}", facade, services, limits, reflect=False, facades=True),
    ]
    if config.facade_tls is not None:
        peers = FacadePeers(config.facade_tls.identities, clock.now)
        credentials = server_credentials(config.facade_tls.files())
        known, address = chain(Trust.FACADE, peers), config.facade_grpc
        listeners.append(
            Listener(address, known, services, limits, reflect=False, credentials=credentials, facades=True)
        )
    if config.grpc_public:
        listeners.insert(0, _public_listener(config, handlers, chain))
    if config.grpc:
        reflect = is_loopback(config.grpc) if config.reflection is None else config.reflection
        shown = None if config.tls is None else server_credentials(config.tls.files())
        known_services = chain(Trust.NETWORK, _service_peers(config, clock))
        listeners.insert(0, Listener(config.grpc, known_services, services, limits, reflect=reflect, credentials=shown))
    return listeners


def _public_listener(
    config: ServerConfig, handlers: Mapping[str, grpc.RpcMethodHandler[Any, Any]], chain: MakeChain
) -> Listener:
    """Return the listener for callers outside of the trust zone: it has only what the schema names for it."""
    rules = read_rules(FILES)
    offered = by_service({path: one for path, one in handlers.items() if rules[path].public_listener})
    return Listener(
        config.grpc_public,
        chain(Trust.PUBLIC, None),
        offered,
        config.limits,
        reflect=config.reflection is True,
        credentials=None if config.grpc_public_tls is None else server_credentials(config.grpc_public_tls.files()),
        public=True,
    )


def _service_peers(config: ServerConfig, clock: Clock) -> ServicePeers | None:
    if config.tls is None or not config.tls.services:
        return None
    known = {one.certificate_name: service_principal(one.name, one.organization) for one in config.tls.services}
    return ServicePeers(known, clock.now)
