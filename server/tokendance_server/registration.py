"""Which servicer answers which RPC; what has no servicer of its own yet answers `unimplemented`."""

from __future__ import annotations

from typing import Any

import grpc

from tokendance.gateway.v1 import (
    audit_service_pb2,
    audit_service_pb2_grpc,
    completions_service_pb2,
    completions_service_pb2_grpc,
    facade_service_pb2,
    facade_service_pb2_grpc,
    keys_service_pb2,
    keys_service_pb2_grpc,
    models_service_pb2,
    models_service_pb2_grpc,
    nodes_service_pb2,
    nodes_service_pb2_grpc,
    organizations_service_pb2,
    organizations_service_pb2_grpc,
    quota_service_pb2,
    quota_service_pb2_grpc,
    status_service_pb2,
    status_service_pb2_grpc,
)
from tokendance_server.catalogue import CatalogueParts
from tokendance_server.domain.clock import Clock
from tokendance_server.domain.completions import Completions
from tokendance_server.domain.quota.service_reservations import ServiceReservations
from tokendance_server.domain.replay.replays import Replays
from tokendance_server.domain.sessions.sessions import Sessions
from tokendance_server.domain.usage.refused import RefusedRequests
from tokendance_server.governance import Governance
from tokendance_server.nodes import NodeParts
from tokendance_server.prices import PriceParts
from tokendance_server.quota import QuotaParts
from tokendance_server.services.audit import AuditService
from tokendance_server.services.completions import CompletionsService
from tokendance_server.services.facade import FacadeService
from tokendance_server.services.keys import KeysService
from tokendance_server.services.local_channel import MethodTable
from tokendance_server.services.models import ModelsService
from tokendance_server.services.nodes import NodesService
from tokendance_server.services.organizations import OrganizationsService
from tokendance_server.services.quota import QuotaService
from tokendance_server.services.status import StatusService
from tokendance_server.status import StatusParts
from tokendance_server.usage import UsageParts
from tokendance_server.webhooks import WebhookParts

FILES = [
    completions_service_pb2.DESCRIPTOR,
    keys_service_pb2.DESCRIPTOR,
    quota_service_pb2.DESCRIPTOR,
    models_service_pb2.DESCRIPTOR,
    status_service_pb2.DESCRIPTOR,
    organizations_service_pb2.DESCRIPTOR,
    audit_service_pb2.DESCRIPTOR,
    facade_service_pb2.DESCRIPTOR,
    nodes_service_pb2.DESCRIPTOR,
]
"""Every file of the package that declares a service."""


def register(
    completions: Completions,
    replays: Replays,
    governance: Governance,
    parts: CatalogueParts,
    quota: QuotaParts,
    *,
    usage: UsageParts,
    prices: PriceParts,
    reservations: ServiceReservations,
    webhooks: WebhookParts,
    sessions: Sessions,
    status: StatusParts,
    nodes: NodeParts,
    clock: Clock,
) -> dict[str, grpc.RpcMethodHandler[Any, Any]]:
    """Return the handler of every RPC by path. What has no servicer of its own yet answers `unimplemented`."""
    table = MethodTable()
    target: Any = table  # the generated functions ask for a whole server and use only what the table has
    completions_service_pb2_grpc.add_CompletionsServiceServicer_to_server(
        CompletionsService(completions, replays), target
    )
    keys_service = KeysService(governance.keys, governance.life, governance.verifier, governance.requests)
    keys_service_pb2_grpc.add_KeysServiceServicer_to_server(keys_service, target)
    people = OrganizationsService(governance.people)
    organizations_service_pb2_grpc.add_OrganizationsServiceServicer_to_server(people, target)
    models = ModelsService(parts.catalogue, parts.editor, prices.book.published)
    models_service_pb2_grpc.add_ModelsServiceServicer_to_server(models, target)
    audit_service_pb2_grpc.add_AuditServiceServicer_to_server(AuditService(governance.trail), target)
    quota_service = QuotaService(
        quota.quotas,
        clock,
        reservations=reservations,
        usage=usage.reader,
        queries=usage.queries,
        prices=prices.desk,
        webhooks=webhooks.desk,
    )
    quota_service_pb2_grpc.add_QuotaServiceServicer_to_server(quota_service, target)
    refused = RefusedRequests(usage.ledger, usage.turned_away, governance.verifier)
    facade: Any = FacadeService  # what none of its parts defines, its decorator adds
    facade_service_pb2_grpc.add_FacadeServiceServicer_to_server(facade(sessions, refused), target)
    status_service = StatusService(
        status.board, status.notices, lambda: parts.catalogue.serving, status.health, status.tokens
    )
    status_service_pb2_grpc.add_StatusServiceServicer_to_server(status_service, target)
    nodes_service = NodesService(nodes.roster, nodes.newest, nodes.tokens)
    nodes_service_pb2_grpc.add_NodesServiceServicer_to_server(nodes_service, target)
    return table.handlers
