"""The Status and Nodes services over the edge: who sees what, watches that go on, and each refusal with its field."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc.aio
import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.timestamp_pb2 import Timestamp
from tests.server.services.edge import AUTHORIZATION, open_edge
from tests.server.services.office import refusal

from tokendance.gateway.v1 import status_service_pb2 as pb
from tokendance.gateway.v1.status_service_pb2_grpc import StatusServiceStub, add_StatusServiceServicer_to_server
from tokendance_server.domain.catalogue.in_force import Serving
from tokendance_server.domain.catalogue.models import Model, ModelIndex, Route
from tokendance_server.domain.clock import ManualClock
from tokendance_server.domain.page_tokens import PageTokens
from tokendance_server.domain.routing.circuit import CircuitState
from tokendance_server.domain.routing.health import ModelHealth, RouteHealth
from tokendance_server.domain.status.board import Board
from tokendance_server.domain.status.desk import Notices
from tokendance_server.domain.status.tally import Counts, Tally
from tokendance_server.services.call import Trust
from tokendance_server.services.status import StatusService
from tokendance_server.services.status_messages import snapshot
from tokendance_server.stores.memory_status import MemoryNoticeStore, MemoryStatusStore

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
RUN = "run_01h455vb4pex5vsknk084sn02q"
MODELS = (
    Model("hidden", (Route("p", "up"),), public=False),
    Model("open", (Route("p", "up"),)),
)
WITH_KEY = (AUTHORIZATION,)


class Routes:
    """Knows two routes."""

    def route_health(self) -> Sequence[RouteHealth]:
        up = RouteHealth("hidden", "p", "P", "up", CircuitState.CLOSED, NOW, recent_calls=3, mean_first_byte_s=0.25)
        down = RouteHealth(
            "open", "q", "Q", "up", CircuitState.OPEN, NOW, reason="It fails.", retry_time=NOW, credential_rejected=True
        )
        return [up, down]

    def model_health(self) -> Sequence[ModelHealth]:
        return []


@dataclass
class Desk:
    """The service as callers reach it."""

    stub: Any
    board: Board
    tally: Tally
    clock: ManualClock
    house: dict[str, Serving]

    async def create(self, *models: str, request_id: str = "", **fields: Any) -> pb.Incident:
        """Open an incident."""
        incident = pb.Incident(**{"title": "Slow", "state": pb.SERVICE_STATE_DEGRADED, "models": models, **fields})
        request = pb.CreateIncidentRequest(incident=incident, message="We look into it.", request_id=request_id)
        return (await self.stub.CreateIncident(request)).incident  # type: ignore[no-any-return]

    async def update(self, incident: pb.Incident, *paths: str, message: str = "") -> pb.Incident:
        """Change what the paths name."""
        mask = FieldMask(paths=paths) if paths else None
        request = pb.UpdateIncidentRequest(incident=incident, update_mask=mask, message=message)
        return (await self.stub.UpdateIncident(request)).incident  # type: ignore[no-any-return]

    async def fail(self, model: str) -> None:
        """Let requests of a model fail, and the board see it."""
        self.tally._counts[model] = Counts(0, 0, 9)
        await self.board.refresh()


@asynccontextmanager
async def opened(trust: Trust, **told: Any) -> AsyncIterator[Desk]:
    """The service over stores in memory."""
    clock, tally, notices = ManualClock(NOW), Tally(lambda name: None), MemoryNoticeStore()
    house = {"": Serving(ModelIndex(MODELS), labels={"p": "Provider P"})}
    board = Board(
        MemoryStatusStore(), notices, tally, lambda: house[""], run_id=RUN, clock=clock, report=lambda error: None
    )
    await board.refresh()
    tokens = PageTokens(bytes(32))
    desk = Notices(notices, house[""].catalog.has, tokens, clock, board.refresh)
    service = StatusService(board, desk, lambda: house[""], Routes(), tokens, **told)

    def add(server: Any) -> None:
        add_StatusServiceServicer_to_server(service, server)

    add.file = pb.DESCRIPTOR  # type: ignore[attr-defined]  # how the rig knows whose rules to read
    async with open_edge("grpc", trust=trust, register=[add]) as edge:
        yield Desk(StatusServiceStub(edge.channel), board, tally, clock, house)


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    """The service as an operator reaches it."""
    async with opened(Trust.OPERATOR) as one:
        yield one


@pytest.fixture
async def street() -> AsyncIterator[Desk]:
    """The service as everybody reaches it."""
    async with opened(Trust.PUBLIC) as one:
        yield one


def stamp(time: datetime) -> Timestamp:
    """A time as a message."""
    message = Timestamp()
    message.FromDatetime(time)
    return message


async def test_everybody_sees_public_models_and_a_key_sees_its_own(street: Desk) -> None:
    """Nothing names a model that the caller does not see: not the list, not an incident, not a change."""
    await street.fail("hidden")
    shown = (await street.stub.GetStatus(pb.GetStatusRequest(history_days=2))).status
    assert [one.model for one in shown.models] == ["open"]
    assert (len(shown.history), len(shown.models[0].history)) == (2, 2)
    own = (await street.stub.GetStatus(pb.GetStatusRequest(), metadata=WITH_KEY)).status
    assert [(one.model, one.state) for one in own.models] == [
        ("hidden", pb.SERVICE_STATE_MAJOR_OUTAGE),
        ("open", pb.SERVICE_STATE_OPERATIONAL),
    ]
    assert own.models[0].success_permille == 0
    assert not own.history


async def test_summary_says_what_to_do(street: Desk) -> None:
    """For the whole; where the whole works and a model does not, how many."""
    assert (await street.stub.GetStatus(pb.GetStatusRequest())).status.summary == "Everything works."
    street.tally._counts["open"] = Counts(2000)
    await street.fail("hidden")
    told = (await street.stub.GetStatus(pb.GetStatusRequest(), metadata=WITH_KEY)).status
    assert told.state == pb.SERVICE_STATE_OPERATIONAL
    assert "1 of 2 models are not fully available" in told.summary


async def test_incident_lives_from_its_opening_to_its_end(desk: Desk) -> None:
    """What was said stays in its order; a closed one takes words, and nothing else."""
    made = await desk.create("open", request_id="once")
    assert await desk.create("open", request_id="once") == made
    moved = pb.Incident(name=made.name, phase=pb.INCIDENT_PHASE_IDENTIFIED, state=pb.SERVICE_STATE_MAJOR_OUTAGE)
    changed = await desk.update(moved, "phase", "state", message="It is the network.")
    assert [(one.phase, one.message) for one in changed.updates] == [
        (pb.INCIDENT_PHASE_INVESTIGATING, "We look into it."),
        (pb.INCIDENT_PHASE_IDENTIFIED, "It is the network."),
    ]
    shown = (await desk.stub.GetStatus(pb.GetStatusRequest())).status
    assert [(one.state, one.incident) for one in shown.models] == [
        (pb.SERVICE_STATE_OPERATIONAL, ""),
        (pb.SERVICE_STATE_MAJOR_OUTAGE, made.name),
    ]
    closed = await desk.update(pb.Incident(name=made.name, phase=pb.INCIDENT_PHASE_RESOLVED), "phase")
    assert closed.HasField("resolve_time")
    refused = await refusal(desk.stub.UpdateIncident(
        pb.UpdateIncidentRequest(incident=moved, update_mask=FieldMask(paths=["phase"]))
    ))  # fmt: skip
    assert refused.code == "failed_precondition"
    told = await desk.update(pb.Incident(name=made.name), message="What we learnt.")
    assert told.updates[-1].message == "What we learnt."
    assert (await desk.stub.GetIncident(pb.GetIncidentRequest(name=made.name))).incident == told


@pytest.mark.parametrize(
    ("fields", "code", "param"),
    [
        ({"state": 0}, "invalid_request", "incident.state"),
        ({"title": ""}, "invalid_request", "incident.title"),
        ({"title": "a\u0000b"}, "invalid_request", "incident.title"),
        ({"models": ["no-such"]}, "model_not_found", "incident.models[0]"),
        ({"phase": pb.INCIDENT_PHASE_RESOLVED}, "invalid_request", "incident.phase"),
        ({"start_time": stamp(NOW + timedelta(hours=1))}, "invalid_request", "incident.start_time"),
        ({"etag": '"1"'}, "invalid_request", "incident.etag"),
    ],
    ids=["no state", "no title", "control", "no model", "closed", "future", "etag"],
)
async def test_incident_that_cannot_be_is_refused_by_its_field(
    desk: Desk, fields: dict[str, Any], code: str, param: str
) -> None:
    """And nothing is told to anybody."""
    base = {"title": "Slow", "state": pb.SERVICE_STATE_DEGRADED}
    request = pb.CreateIncidentRequest(incident=pb.Incident(**{**base, **fields}), message="It is slow.")
    refused = await refusal(desk.stub.CreateIncident(request))
    assert (refused.code, refused.param) == (code, param)
    assert not (await desk.stub.ListIncidents(pb.ListIncidentsRequest())).incidents


async def test_lost_update_is_refused(desk: Desk) -> None:
    """By the etag; another wish under the same request id too; and what is no incident is not found."""
    made = await desk.create("open", request_id="once")
    await desk.update(pb.Incident(name=made.name), message="More.")
    stale = pb.UpdateIncidentRequest(incident=pb.Incident(name=made.name, etag=made.etag), message="x")
    assert (await refusal(desk.stub.UpdateIncident(stale))).code == "version_conflict"
    other = pb.CreateIncidentRequest(
        incident=pb.Incident(title="Else", state=pb.SERVICE_STATE_DEGRADED), message="x", request_id="once"
    )
    assert (await refusal(desk.stub.CreateIncident(other))).code == "idempotency_conflict"
    nothing = pb.GetIncidentRequest(name="incidents/inc_01h455vb4pex5vsknk084sn02q")
    assert (await refusal(desk.stub.GetIncident(nothing))).code == "not_found"
    assert (await refusal(desk.stub.GetIncident(pb.GetIncidentRequest(name="x")))).code == "invalid_request"


async def test_incident_of_a_hidden_model_is_not_there_for_others() -> None:
    """What names both names one of them only."""
    async with opened(Trust.OPERATOR) as inside:
        hidden, both = await inside.create("hidden"), await inside.create("hidden", "open")
        assert both.models == ["hidden", "open"]
        service_side = inside.board.picture
        assert len(service_side.incidents) == 2
        sees = frozenset({"open"}).__contains__
        shown = snapshot(service_side, sees)
        assert [(one.name, list(one.models)) for one in shown.incidents] == [(both.name, ["open"])]
        assert hidden.name not in str(shown)


async def test_maintenance_is_announced_moved_and_cancelled(desk: Desk) -> None:
    """It is listed until it is over; one that is cancelled changes no more."""
    work = pb.Maintenance(title="Upgrade", start_time=stamp(NOW), end_time=stamp(NOW + timedelta(hours=1)))
    made = (await desk.stub.CreateMaintenance(pb.CreateMaintenanceRequest(maintenance=work))).maintenance
    shown = (await desk.stub.GetStatus(pb.GetStatusRequest())).status
    assert {one.state for one in shown.models} == {pb.SERVICE_STATE_MAINTENANCE}
    moved = pb.Maintenance(name=made.name, start_time=stamp(NOW + timedelta(minutes=5)))

    def change(message: pb.Maintenance, *paths: str) -> Any:
        mask = FieldMask(paths=paths)
        return desk.stub.UpdateMaintenance(pb.UpdateMaintenanceRequest(maintenance=message, update_mask=mask))

    changed = (await change(moved, "start_time")).maintenance
    assert (changed.title, changed.start_time) == ("Upgrade", moved.start_time)
    backward = pb.Maintenance(name=made.name, end_time=stamp(NOW - timedelta(hours=1)))
    assert (await refusal(change(backward, "end_time"))).param == "maintenance.end_time"
    assert (await refusal(change(pb.Maintenance(name=made.name), "end_time"))).param == "maintenance.end_time"
    cancelled = (await change(pb.Maintenance(name=made.name, cancelled=True), "cancelled")).maintenance
    assert cancelled.cancelled
    assert (await refusal(change(moved, "start_time"))).code == "failed_precondition"
    upcoming = await desk.stub.ListMaintenances(pb.ListMaintenancesRequest(upcoming_only=True))
    everything = await desk.stub.ListMaintenances(pb.ListMaintenancesRequest())
    assert (list(upcoming.maintenances), list(everything.maintenances)) == ([], [cancelled])


async def test_watch_goes_on_where_it_was_cut_off(desk: Desk) -> None:
    """First everything, then each change once, also those that came while nobody watched."""
    watch = desk.stub.WatchStatus(pb.WatchStatusRequest())
    first = await watch.read()
    assert [one.model for one in first.snapshot.models] == ["hidden", "open"]
    await desk.fail("open")
    seen = [await watch.read(), await watch.read()]
    assert [one.change.WhichOneof("change") for one in seen] == ["model", "state"]
    watch.cancel()
    made = await desk.create("hidden")
    again = desk.stub.WatchStatus(pb.WatchStatusRequest(resume_token=seen[0].resume_token))
    rest = [await again.read() for _ in range(3)]
    assert rest[0] == seen[1]
    assert (rest[1].change.incident.name, rest[2].change.model.model) == (made.name, "hidden")
    again.cancel()


async def test_watch_that_cannot_go_on_starts_anew(street: Desk) -> None:
    """With a token of another run, or of another caller; what is no token is refused."""
    watch = street.stub.WatchStatus(pb.WatchStatusRequest())
    token = (await watch.read()).resume_token
    watch.cancel()
    for given, metadata in ((token.replace("02q", "02r"), ()), (token, WITH_KEY)):
        anew = street.stub.WatchStatus(pb.WatchStatusRequest(resume_token=given), metadata=metadata)
        assert (await anew.read()).HasField("snapshot")
        anew.cancel()
    refused = await refusal(street.stub.WatchStatus(pb.WatchStatusRequest(resume_token="x")).read())
    assert (refused.code, refused.param) == ("invalid_request", "resume_token")


async def test_changed_catalogue_sends_everything_again(street: Desk) -> None:
    """Who may see which model may have changed with it."""
    watch = street.stub.WatchStatus(pb.WatchStatusRequest())
    await watch.read()
    street.house[""] = Serving(ModelIndex([Model("new", (Route("p", "up"),))], 2), labels={"p": "Provider P"})
    await street.board.refresh()
    assert [one.model for one in (await watch.read()).snapshot.models] == ["new"]
    watch.cancel()


async def test_hidden_changes_are_passed_over_and_silence_is_told() -> None:
    """A watcher gets a sign of life with a token that is ahead of what it may not see."""
    async with opened(Trust.PUBLIC, heartbeat_s=0.05) as street:
        watch = street.stub.WatchStatus(pb.WatchStatusRequest())
        first = await watch.read()
        street.tally._counts["open"] = Counts(2000)
        await street.fail("hidden")
        beat = await watch.read()
        assert beat.WhichOneof("event") is None
        assert beat.resume_token != first.resume_token
        watch.cancel()


async def test_watchers_are_bounded() -> None:
    """They need no credential, and must not fill the node; a place that is left is free again."""
    async with opened(Trust.PUBLIC, most_watchers=1) as street:
        watch = street.stub.WatchStatus(pb.WatchStatusRequest())
        await watch.read()
        refused = await refusal(street.stub.WatchStatus(pb.WatchStatusRequest()).read())
        assert (refused.code, refused.retry_after_s) == ("gateway_overloaded", 60)
        watch.cancel()
        async with asyncio.timeout(5):
            while True:
                again = street.stub.WatchStatus(pb.WatchStatusRequest())
                with contextlib.suppress(grpc.aio.AioRpcError):
                    assert (await again.read()).HasField("snapshot")
                    again.cancel()
                    return


async def test_node_that_ends_lets_watchers_go(desk: Desk) -> None:
    """They are told why, and come back elsewhere."""
    watch = desk.stub.WatchStatus(pb.WatchStatusRequest())
    await watch.read()
    desk.board.dismiss()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await watch.read()
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    await asyncio.sleep(0)


async def test_routes_are_told_to_operators(desk: Desk, street: Desk) -> None:
    """All or those asked for, page by page; nobody else reads of providers by name."""
    page = await desk.stub.ListRouteHealth(pb.ListRouteHealthRequest(page_size=1))
    rest = await desk.stub.ListRouteHealth(pb.ListRouteHealthRequest(page_size=1, page_token=page.next_page_token))
    routes: list[pb.RouteHealth] = [*page.route_health, *rest.route_health]
    up, down = routes
    assert (page.node, rest.next_page_token) == (f"nodes/{RUN}", "")
    assert (up.circuit, up.recent_calls, up.mean_first_byte_latency.ToMilliseconds()) == (1, 3, 250)
    assert (down.circuit, down.reason, down.credential_rejected, down.provider) == (2, "It fails.", True, "providers/q")
    assert not down.HasField("mean_first_byte_latency")
    only = await desk.stub.ListRouteHealth(pb.ListRouteHealthRequest(provider="providers/q"))
    assert list(only.route_health) == [down]
    refused = await refusal(desk.stub.ListRouteHealth(pb.ListRouteHealthRequest(model="no-such")))
    assert refused.code == "model_not_found"
    for metadata in ((), WITH_KEY):
        assert (await refusal(street.stub.ListRouteHealth(pb.ListRouteHealthRequest(), metadata=metadata))).code in (
            "missing_api_key",
            "api_key_not_accepted",
            "unimplemented",
        )
