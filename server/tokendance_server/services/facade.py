"""The Facade servicer: what the REST facade, which has no store, leaves with the server."""

from __future__ import annotations

from tokendance.gateway.v1 import facade_service_pb2, facade_service_pb2_grpc
from tokendance_server.domain.sessions.sessions import Sessions
from tokendance_server.domain.usage.refused import RefusedRequests
from tokendance_server.services.refused import RefusedRpcs
from tokendance_server.services.sessions import SessionRpcs
from tokendance_server.services.unimplemented import refuse_rest

_SERVICE = facade_service_pb2.DESCRIPTOR.services_by_name["FacadeService"]


@refuse_rest(_SERVICE)
class FacadeService(SessionRpcs, RefusedRpcs, facade_service_pb2_grpc.FacadeServiceServicer):
    """Serves the facade alone."""

    def __init__(self, sessions: Sessions, refused: RefusedRequests) -> None:
        super().__init__(sessions)
        self._refused = refused
