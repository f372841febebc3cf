"""The Status servicer: decode, one call of the domain, encode; and who sees which models."""

from __future__ import annotations

import hashlib
import re
from collections.abc import AsyncIterator, Callable
from datetime import UTC
from typing import Any

import grpc.aio

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import errors_pb2
from tokendance.gateway.v1 import status_service_pb2 as pb
from tokendance.gateway.v1 import status_service_pb2_grpc as pb_grpc
from tokendance_server.domain.catalogue.in_force import Serving
from tokendance_server.domain.keys.rules import invalid
from tokendance_server.domain.page_tokens import PageTokens
from tokendance_server.domain.principals import Principal
from tokendance_server.domain.routing.health import HealthSource
from tokendance_server.domain.status.board import Board, Everything, ModelView, News, Numbered
from tokendance_server.domain.status.desk import Notices
from tokendance_server.domain.status.incidents import Incident, Maintenance
from tokendance_server.domain.status.verdicts import WHOLE
from tokendance_server.services.call import Call, call_of
from tokendance_server.services.key_messages import timestamp
from tokendance_server.services.organization_messages import masked, require_new
from tokendance_server.services.origins import origin_of
from tokendance_server.services.route_health import RouteHealthService
from tokendance_server.services.status_messages import (
    INCIDENT_FIELDS,
    MAINTENANCE_FIELDS,
    Sees,
    incident_draft,
    incident_message,
    maintenance_draft,
    maintenance_message,
    model_status,
    snapshot,
    state_number,
    touches_seen,
)

Context = grpc.aio.ServicerContext[Any, Any]

HEARTBEAT_S = 30.0
MOST_WATCHERS = 100
"""How many may watch one node: each holds a place among the calls that run, and needs no credential."""

_TOKEN = re.compile(r"(run_[0-9a-z]{26})\.([0-9]{1,18})\.([0-9a-f]{12})")


class StatusService(RouteHealthService, pb_grpc.StatusServiceServicer):
    """Serves the state of now to everybody, and incidents and maintenance to those who write them."""

    def __init__(
        self,
        board: Board,
        notices: Notices,
        serving: Callable[[], Serving],
        health: HealthSource,
        tokens: PageTokens,
        *,
        heartbeat_s: float = HEARTBEAT_S,
        most_watchers: int = MOST_WATCHERS,
    ) -> None:
        RouteHealthService.__init__(self, health, tokens, board.run_id)
        self._board = board
        self._notices = notices
        self._serving = serving
        self._heartbeat_s = heartbeat_s
        self._most_watchers = most_watchers
        self._watchers = 0

    async def GetStatus(self, request: pb.GetStatusRequest, context: Context) -> pb.GetStatusResponse:
        count = request.history_days
        days = (lambda model: self._board.days(model, count)) if count else None
        seen = self._sees(call_of(context).identity)
        return pb.GetStatusResponse(status=snapshot(self._board.picture, seen, days, WHOLE))

    async def WatchStatus(
        self, request: pb.WatchStatusRequest, context: Context
    ) -> AsyncIterator[pb.WatchStatusResponse]:
        call = call_of(context)
        at = self._resumed(request.resume_token, call)
        if self._watchers >= self._most_watchers:
            raise GatewayError(
                errors_pb2.ERROR_REASON_GATEWAY_OVERLOADED,
                "As many watch the status of this node as can; ask for it from time to time instead.",
                retry_after_s=60,
            )
        self._watchers += 1
        try:
            news = None if at is None else self._board.news_after(at)
            while True:
                if news is None or any(isinstance(one.news, Everything) for one in news):
                    # Before the picture: what comes in between is told twice, and never not at all.
                    at = self._board.number
                    shown = snapshot(self._board.picture, self._sees(call.identity))
                    yield pb.WatchStatusResponse(resume_token=self._token(at, call), snapshot=shown)
                elif not news:
                    yield pb.WatchStatusResponse(resume_token=self._token(at or 0, call))
                else:
                    seen = self._sees(call.identity)
                    for one in news:
                        at = one.number
                        change = _change(one, seen)
                        if change is not None:
                            yield pb.WatchStatusResponse(resume_token=self._token(at, call), change=change)
                assert at is not None
                await self._board.wait(at, self._heartbeat_s)
                if self._board.dismissed:
                    raise GatewayError(
                        errors_pb2.ERROR_REASON_SERVICE_STOPPING,
                        "This node is shutting down; watch again, with the last resume token.",
                        retry_after_s=1,
                    )
                news = self._board.news_after(at)
        finally:
            self._watchers -= 1

    async def ListIncidents(self, request: pb.ListIncidentsRequest, context: Context) -> pb.ListIncidentsResponse:
        caller = call_of(context).identity
        seen = self._sees(caller)
        # Asking for a model that one does not see finds what touches all models, as for one that is not there.
        found, token = await self._notices.incidents(
            caller,
            lambda one: touches_seen(one, seen) and (not request.model or not one.models or seen(request.model)),
            page_size=request.page_size,
            page_token=request.page_token,
            open_only=request.open_only,
            model=request.model,
            start_time=request.start_time.ToDatetime(UTC) if request.HasField("start_time") else None,
        )
        return pb.ListIncidentsResponse(incidents=[incident_message(one, seen) for one in found], next_page_token=token)

    async def GetIncident(self, request: pb.GetIncidentRequest, context: Context) -> pb.GetIncidentResponse:
        seen = self._sees(call_of(context).identity)
        found = await self._notices.incident(request.name, lambda one: touches_seen(one, seen))
        return pb.GetIncidentResponse(incident=incident_message(found, seen))

    async def CreateIncident(self, request: pb.CreateIncidentRequest, context: Context) -> pb.CreateIncidentResponse:
        call = call_of(context)
        require_new(request.incident, "incident", INCIDENT_FIELDS)
        made = await self._notices.open_incident(
            call.identity, incident_draft(request.incident), request.message, request.request_id, origin=origin_of(call)
        )
        return pb.CreateIncidentResponse(incident=incident_message(made, _sees_all))

    async def UpdateIncident(self, request: pb.UpdateIncidentRequest, context: Context) -> pb.UpdateIncidentResponse:
        call, wanted = call_of(context), request.incident
        paths = request.update_mask.paths
        fields = masked(paths, wanted, "an incident", INCIDENT_FIELDS) if paths else frozenset[str]()
        changed = await self._notices.update_incident(
            call.identity,
            wanted.name,
            incident_draft(wanted, named=fields),
            fields,
            message=request.message,
            etag=wanted.etag,
            origin=origin_of(call),
        )
        return pb.UpdateIncidentResponse(incident=incident_message(changed, _sees_all))

    async def ListMaintenances(
        self, request: pb.ListMaintenancesRequest, context: Context
    ) -> pb.ListMaintenancesResponse:
        caller = call_of(context).identity
        seen = self._sees(caller)
        found, token = await self._notices.maintenances(
            caller,
            lambda one: touches_seen(one, seen),
            page_size=request.page_size,
            page_token=request.page_token,
            upcoming_only=request.upcoming_only,
        )
        return pb.ListMaintenancesResponse(
            maintenances=[maintenance_message(one, seen) for one in found], next_page_token=token
        )

    async def CreateMaintenance(
        self, request: pb.CreateMaintenanceRequest, context: Context
    ) -> pb.CreateMaintenanceResponse:
        call = call_of(context)
        require_new(request.maintenance, "maintenance", MAINTENANCE_FIELDS)
        draft = maintenance_draft(request.maintenance)
        made = await self._notices.announce(call.identity, draft, request.request_id, origin=origin_of(call))
        return pb.CreateMaintenanceResponse(maintenance=maintenance_message(made, _sees_all))

    async def UpdateMaintenance(
        self, request: pb.UpdateMaintenanceRequest, context: Context
    ) -> pb.UpdateMaintenanceResponse:
        call, wanted = call_of(context), request.maintenance
        fields = masked(request.update_mask.paths, wanted, "maintenance", MAINTENANCE_FIELDS)
        changed = await self._notices.update_maintenance(
            call.identity,
            wanted.name,
            maintenance_draft(wanted, named=fields),
            fields,
            wanted.etag,
            origin=origin_of(call),
        )
        return pb.UpdateMaintenanceResponse(maintenance=maintenance_message(changed, _sees_all))

    def _sees(self, caller: Principal) -> Sees:
        """Return what tells which models a caller sees: everybody the public ones, others what they may call."""
        return frozenset(model.id for model in self._serving().catalog.visible_to(caller)).__contains__

    def _token(self, number: int, call: Call) -> str:
        return f"{self._board.run_id}.{number}.{_who(call)}"

    def _resumed(self, token: str, call: Call) -> int | None:
        """Return the number after which a watcher goes on; None where it gets a snapshot. Raises invalid_request."""
        if not token:
            return None
        found = _TOKEN.fullmatch(token)
        if found is None:
            raise invalid("resume_token", "must be one of this gateway; start again without it")
        run, number, who = found.groups()
        # Another run counts from the start, and another caller sees other models.
        return int(number) if (run, who) == (self._board.run_id, _who(call)) else None


def _who(call: Call) -> str:
    return hashlib.blake2b(call.identity.name.encode(), digest_size=6).hexdigest()


def _sees_all(_: str) -> bool:
    return True


def _change(one: Numbered, sees: Sees) -> pb.StatusChange | None:
    """Return a change as a caller sees it; None for one that is not for it."""
    news: News = one.news
    time = timestamp(one.time)
    match news:
        case ModelView():
            return pb.StatusChange(time=time, model=model_status(news)) if sees(news.model) else None
        case Incident():
            return (
                pb.StatusChange(time=time, incident=incident_message(news, sees)) if touches_seen(news, sees) else None
            )
        case Maintenance():
            shown = touches_seen(news, sees)
            return pb.StatusChange(time=time, maintenance=maintenance_message(news, sees)) if shown else None
        case Everything():
            return None
        case _:
            return pb.StatusChange(time=time, state=state_number(news))
