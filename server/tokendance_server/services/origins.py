"""Where a call came from, as the audit trail keeps it."""

from __future__ import annotations

from tokendance.gateway.v1 import audit_service_pb2, errors_pb2
from tokendance_server.domain.audit.events import Origin
from tokendance_server.services.call import Call, Trust

_MOST_USER_AGENT = 256


def origin_of(call: Call) -> Origin:
    """Return what is known of a call's way in."""
    if call.trust is Trust.OPERATOR:
        source = audit_service_pb2.AUDIT_SOURCE_LOCAL
    elif call.surface == errors_pb2.SURFACE_ADMIN:
        source = audit_service_pb2.AUDIT_SOURCE_REST
    else:
        source = audit_service_pb2.AUDIT_SOURCE_GRPC
    user_agent = call.caller.user_agent[:_MOST_USER_AGENT] if call.caller is not None else ""
    return Origin(call.request_id, source, call.address, user_agent)
