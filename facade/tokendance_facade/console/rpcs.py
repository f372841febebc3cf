"""The RPCs that the console makes: the same ones as everybody's, each with the person's own token or with none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import grpc.aio

from tokendance.gateway.v1.audit_service_pb2_grpc import AuditServiceStub
from tokendance.gateway.v1.facade_service_pb2_grpc import FacadeServiceStub
from tokendance.gateway.v1.keys_service_pb2_grpc import KeysServiceStub
from tokendance.gateway.v1.models_service_pb2_grpc import ModelsServiceStub
from tokendance.gateway.v1.nodes_service_pb2_grpc import NodesServiceStub
from tokendance.gateway.v1.organizations_service_pb2_grpc import OrganizationsServiceStub
from tokendance.gateway.v1.quota_service_pb2_grpc import QuotaServiceStub
from tokendance.gateway.v1.status_service_pb2_grpc import StatusServiceStub


@dataclass(frozen=True, slots=True)
class Stubs:
    """One stub for each service. The stubs of grpc.aio are untyped; what is asked and answered is not."""

    audit: Any
    facade: Any
    keys: Any
    models: Any
    nodes: Any
    organizations: Any
    quota: Any
    status: Any

    @classmethod
    def on(cls, channel: grpc.aio.Channel) -> Stubs:
        """Return the stubs of a channel."""
        return cls(
            audit=AuditServiceStub(channel),
            facade=FacadeServiceStub(channel),
            keys=KeysServiceStub(channel),
            models=ModelsServiceStub(channel),
            nodes=NodesServiceStub(channel),
            organizations=OrganizationsServiceStub(channel),
            quota=QuotaServiceStub(channel),
            status=StatusServiceStub(channel),
        )
