"""What operators look at: incidents that the public reads of, and the nodes that serve."""

from __future__ import annotations

from google.protobuf.field_mask_pb2 import FieldMask

from tokendance.gateway.v1 import nodes_service_pb2
from tokendance.gateway.v1 import status_service_pb2 as pb
from tokendance_facade.console import words
from tokendance_facade.console.pages.paging import PAGE_SIZE, first_href, next_href, number, page_token
from tokendance_facade.console.views import Action, Actions, Cell, Facts, Field, Form, Notice, Table, View
from tokendance_facade.console.visit import PLATFORM, Visit
from tokendance_facade.console.words import NODE_STATE, PHASE, SERVICE_STATE

_INCIDENTS = "/console/incidents"
_TRAIL = [(_INCIDENTS, "Incidents")]


async def list_incidents(visit: Visit) -> View:
    """Show incidents, those that are open first."""
    request = pb.ListIncidentsRequest(page_size=PAGE_SIZE, page_token=page_token(visit))
    found = await visit.call(visit.stubs.status.ListIncidents, request)
    manages = visit.is_any(PLATFORM)
    rows = [
        [
            Cell(one.title, href=f"{_INCIDENTS}/{words.id_of(one.name)}" if manages else ""),
            words.state(PHASE, one.phase),
            words.state(SERVICE_STATE, one.state),
            Cell(", ".join(one.models) or "all models"),
            words.moment(one, "start_time"),
            words.moment(one, "resolve_time"),
        ]
        for one in found.incidents
    ]
    table = Table(
        "", ["Incident", "Phase", "It means", "Models", "Began", "Resolved"], rows, "There is no incident.",
        "May it stay so.", next_href(visit, found.next_page_token), first_href(visit),
    )  # fmt: skip
    new = [Actions([Action("Open an incident", f"{_INCIDENTS}/new", "primary")])] if manages else []
    return View("Incidents", [*new, table], "What is written here stands on the public status page at once.")


def _fields(incident: pb.Incident, *, told: str) -> list[Field]:
    return [
        Field("title", "What happened, in a few words", value=incident.title, required=True, longest=200),
        Field("state", "What it means for the models it touches", "select", str(incident.state),
              options=words.options(SERVICE_STATE)),
        Field("phase", "How far it is", "select", str(incident.phase), options=words.options(PHASE)),
        Field("models", "Models that it touches", "area", "\n".join(incident.models),
              hint="Public names, one a line; empty: all."),
        Field("message", told, "area", longest=4000,
              hint="Plain text for callers: no host of a provider, no cause that is not sure."),
    ]  # fmt: skip


async def ask_new_incident(visit: Visit) -> View:
    """Ask what happened."""
    path = visit.exchange.path
    fields = _fields(pb.Incident(), told="What callers notice, and what they can do")
    form = Form(path, fields, "Publish", visit.csrf(path), cancel=_INCIDENTS)
    return View("Open an incident", [form], trail=_TRAIL)


def _incident(visit: Visit) -> pb.Incident:
    form = visit.form
    return pb.Incident(
        title=form.get("title"),
        state=number(form.get("state")),  # type: ignore[arg-type] # the server refuses unknown numbers
        phase=number(form.get("phase")),  # type: ignore[arg-type] # the server refuses unknown numbers
        models=form.lines("models"),
    )


async def new_incident(visit: Visit) -> str:
    """Open an incident."""
    request = pb.CreateIncidentRequest(incident=_incident(visit), message=visit.form.get("message"))
    await visit.call(visit.stubs.status.CreateIncident, request)
    return _INCIDENTS


async def ask_incident(visit: Visit) -> View:
    """Show an incident and what was said of it."""
    name = f"incidents/{visit.path['id']}"
    found = (await visit.call(visit.stubs.status.GetIncident, pb.GetIncidentRequest(name=name))).incident
    path = visit.exchange.path
    fields = _fields(found, told="What is new")
    form = Form(path, fields, "Publish the update", visit.csrf(path), cancel=_INCIDENTS, hidden=[("etag", found.etag)])
    rows = [
        [words.stamp(one.time), words.state(PHASE, one.phase), Cell(one.message)] for one in reversed(found.updates)
    ]
    return View(
        found.title, [form, Table("So far", ["When", "Phase", "What was said"], rows, "Nothing yet.")], "", _TRAIL
    )


async def change_incident(visit: Visit) -> str:
    """Change an incident, and say what is new."""
    incident = _incident(visit)
    incident.name = f"incidents/{visit.path['id']}"
    incident.etag = visit.form.get("etag")
    mask = FieldMask(paths=["title", "state", "phase", "models"])
    request = pb.UpdateIncidentRequest(incident=incident, update_mask=mask, message=visit.form.get("message"))
    await visit.call(visit.stubs.status.UpdateIncident, request)
    return _INCIDENTS


async def list_nodes(visit: Visit) -> View:
    """Show the nodes, and whether each serves the newest configuration."""
    request = nodes_service_pb2.ListNodesRequest(page_size=PAGE_SIZE, page_token=page_token(visit))
    found = await visit.call(visit.stubs.nodes.ListNodes, request)
    rows = [
        [
            Cell(one.hostname, hint=words.id_of(one.name)),
            words.state(NODE_STATE, one.state),
            Cell(one.version),
            Cell(words.count(one.config_version), kind="number",
                 hint="behind" if one.config_version < found.config_version else "newest"),
            Cell(words.span(one.loop_lag.ToTimedelta()), kind="number"),
            Cell(words.count(one.running_requests), kind="number", hint=f"{one.running_streams:,} streams"),
            Cell(f"{one.resident_bytes / 1e6:,.0f} MB", kind="number"),
            Cell(words.count(one.journal.pending_entries), kind="number",
                 hint=f"{one.journal.size_bytes / 1e6:,.1f} MB"),
            words.moment(one, "report_time"),
        ]
        for one in found.nodes
    ]  # fmt: skip
    table = Table(
        "",
        ["Node", "State", "Version", "Configuration", "Loop lag", "Running", "Memory", "Journal", "Reported"],
        rows, "No node reports.", "", next_href(visit, found.next_page_token), first_href(visit),
    )  # fmt: skip
    newest = Facts("", [("Newest configuration", Cell(words.count(found.config_version)))])
    reasons = [f"{one.hostname}: {one.reason}" for one in found.nodes if one.reason]
    told = [Notice("Some nodes do not serve:", "warn", reasons)] if reasons else []
    return View("Nodes", [*told, newest, table], "Who is alive, and which configuration each serves.")
