"""`tokendance incidents` and `tokendance maintenance`: what people say of the state, for everybody to read."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tokendance_cli.failures import USAGE, CommandError, show_request_id
from tokendance_cli.output import FormatOption, form_of
from tokendance_cli.tenant_words import DataDir, Etag, RequestId, Yes

if TYPE_CHECKING:
    from google.protobuf.timestamp_pb2 import Timestamp

app = typer.Typer(no_args_is_help=True, help="Tell everybody of what goes wrong: open, go on, resolve.")
maintenance = typer.Typer(no_args_is_help=True, help="Announce work before it begins.")


class State(StrEnum):
    """What an incident means for the models it touches."""

    OPERATIONAL = "operational"
    DEGRADED = "degraded"
    PARTIAL_OUTAGE = "partial_outage"
    MAJOR_OUTAGE = "major_outage"
    MAINTENANCE = "maintenance"


class Phase(StrEnum):
    """How far an incident is."""

    INVESTIGATING = "investigating"
    IDENTIFIED = "identified"
    MONITORING = "monitoring"
    RESOLVED = "resolved"


Incident = Annotated[str, typer.Argument(help="incidents/I.", metavar="INCIDENT")]
Work = Annotated[str, typer.Argument(help="maintenances/M.", metavar="MAINTENANCE")]
Models = Annotated[
    list[str] | None,
    typer.Option("--model", help="A model that it touches; none: all. Repeatable.", show_default=False),
]
Message = Annotated[str, typer.Option(help="What the public reads: plain text.")]


@app.command("list")
def list_incidents(
    context: typer.Context,
    *,
    open_only: Annotated[bool, typer.Option("--open", help="Only those that are open.")] = False,
    model: Annotated[str, typer.Option(help="Only those that touch this model.", show_default=False)] = "",
    data_dir: DataDir = None,
    form: FormatOption = None,
) -> None:
    """List incidents, newest first."""
    from tokendance.gateway.v1 import status_service_pb2 as pb
    from tokendance_cli.node_client import admin_client
    from tokendance_cli.status_view import INCIDENT_COLUMNS, incident_row
    from tokendance_cli.tenant_view import every, show_rows

    request = pb.ListIncidentsRequest(open_only=open_only, model=model)
    with admin_client(context, data_dir) as client:
        found = every(client.stubs.status.ListIncidents, request, "incidents")
    show_rows(form_of(context, form), found, INCIDENT_COLUMNS, [incident_row(one) for one in found])


@app.command("show")
def show_incident(
    context: typer.Context, incident: Incident, *, data_dir: DataDir = None, form: FormatOption = None
) -> None:
    """Show an incident and everything that was said of it."""
    from tokendance.gateway.v1 import status_service_pb2 as pb
    from tokendance_cli.node_client import admin_client
    from tokendance_cli.status_view import incident_lines
    from tokendance_cli.tenant_view import show

    with admin_client(context, data_dir) as client:
        found = client.stubs.status.GetIncident(pb.GetIncidentRequest(name=incident)).incident
    show(form_of(context, form), found, incident_lines(found))


@app.command("create")
def create_incident(
    context: typer.Context,
    *,
    title: Annotated[str, typer.Option(help="What happened, in a line.")],
    state: Annotated[State, typer.Option(help="What it means for the models.")],
    message: Message,
    phase: Annotated[Phase, typer.Option(help="How far it is.")] = Phase.INVESTIGATING,
    model: Models = None,
    began: Annotated[
        str, typer.Option(help="When: ISO 8601, or how long ago as 20m; else now.", show_default=False)
    ] = "",
    request_id: RequestId = "",
    data_dir: DataDir = None,
    form: FormatOption = None,
) -> None:
    """Open an incident. While it is open, its state takes the place of the measured one."""
    from tokendance import last_request_id
    from tokendance.gateway.v1 import status_service_pb2 as pb
    from tokendance_cli.node_client import admin_client
    from tokendance_cli.status_view import incident_lines
    from tokendance_cli.tenant_view import show

    wanted = pb.Incident(
        title=title,
        state=pb.ServiceState.Value(f"SERVICE_STATE_{state.name}"),
        phase=pb.IncidentPhase.Value(f"INCIDENT_PHASE_{phase.name}"),
        models=model or (),
        start_time=_time(began, "--began") if began else None,
    )
    request = pb.CreateIncidentRequest(incident=wanted, message=message, request_id=request_id)
    with admin_client(context, data_dir) as client:
        made = client.stubs.status.CreateIncident(request).incident
    show(form_of(context, form), made, incident_lines(made))
    show_request_id(last_request_id())


@app.command("update")
def update_incident(
    context: typer.Context,
    incident: Incident,
    *,
    message: Annotated[str, typer.Option(help="What the public reads; else nothing is added.")] = "",
    title: Annotated[str, typer.Option(help="What happened, in a line.", show_default=False)] = "",
    state: Annotated[State | None, typer.Option(help="What it means now.", show_default=False)] = None,
    phase: Annotated[Phase | None, typer.Option(help="How far it is.", show_default=False)] = None,
    model: Models = None,
    all_models: Annotated[bool, typer.Option("--all-models", help="It touches all models.")] = False,
    etag: Etag = "",
    data_dir: DataDir = None,
    form: FormatOption = None,
) -> None:
    """Say what is new of an incident, and change what is named; the rest stays."""
    from tokendance.gateway.v1 import status_service_pb2 as pb

    if model and all_models:
        raise CommandError("--model and --all-models exclude each other.", exit_code=USAGE)
    wanted = pb.Incident(name=incident, title=title, models=model or (), etag=etag)
    if state is not None:
        wanted.state = pb.ServiceState.Value(f"SERVICE_STATE_{state.name}")
    if phase is not None:
        wanted.phase = pb.IncidentPhase.Value(f"INCIDENT_PHASE_{phase.name}")
    given = {
        "title": bool(title),
        "state": state is not None,
        "phase": phase is not None,
        "models": bool(model) or all_models,
    }
    paths = [path for path, is_given in given.items() if is_given]
    if not paths and not message:
        raise CommandError("Name what to change, or give a message.", exit_code=USAGE)
    _update(context, wanted, paths, message, data_dir=data_dir, form=form)


@app.command("resolve")
def resolve_incident(
    context: typer.Context,
    incident: Incident,
    *,
    message: Message,
    etag: Etag = "",
    data_dir: DataDir = None,
    form: FormatOption = None,
) -> None:
    """Close an incident with last words; from then on its models have the state that is measured."""
    from tokendance.gateway.v1 import status_service_pb2 as pb

    wanted = pb.Incident(name=incident, phase=pb.INCIDENT_PHASE_RESOLVED, etag=etag)
    _update(context, wanted, ["phase"], message, data_dir=data_dir, form=form)


def _update(
    context: typer.Context, wanted: Any, paths: list[str], message: str, *, data_dir: DataDir, form: FormatOption
) -> None:
    from google.protobuf.field_mask_pb2 import FieldMask

    from tokendance import last_request_id
    from tokendance.gateway.v1 import status_service_pb2 as pb
    from tokendance_cli.node_client import admin_client
    from tokendance_cli.status_view import incident_lines
    from tokendance_cli.tenant_view import show

    mask = FieldMask(paths=paths) if paths else None
    request = pb.UpdateIncidentRequest(incident=wanted, update_mask=mask, message=message)
    with admin_client(context, data_dir) as client:
        changed = client.stubs.status.UpdateIncident(request).incident
    show(form_of(context, form), changed, incident_lines(changed))
    show_request_id(last_request_id())


@maintenance.command("list")
def list_maintenance(
    context: typer.Context,
    *,
    upcoming: Annotated[bool, typer.Option("--upcoming", help="Only what runs or is to come.")] = False,
    data_dir: DataDir = None,
    form: FormatOption = None,
) -> None:
    """List maintenance, the latest start first."""
    from tokendance.gateway.v1 import status_service_pb2 as pb
    from tokendance_cli.node_client import admin_client
    from tokendance_cli.status_view import MAINTENANCE_COLUMNS, maintenance_row
    from tokendance_cli.tenant_view import every, show_rows

    request = pb.ListMaintenancesRequest(upcoming_only=upcoming)
    with admin_client(context, data_dir) as client:
        found = every(client.stubs.status.ListMaintenances, request, "maintenances")
    show_rows(form_of(context, form), found, MAINTENANCE_COLUMNS, [maintenance_row(one) for one in found])


@maintenance.command("announce")
def announce_maintenance(
    context: typer.Context,
    *,
    title: Annotated[str, typer.Option(help="What is done, in a line.")],
    begins: Annotated[str, typer.Option(help="When it begins: ISO 8601 with a zone.")],
    ends: Annotated[str, typer.Option(help="When it ends.")],
    description: Annotated[str, typer.Option(help="What callers will notice.", show_default=False)] = "",
    model: Models = None,
    request_id: RequestId = "",
    data_dir: DataDir = None,
    form: FormatOption = None,
) -> None:
    """Announce maintenance; from its begin to its end the models that it touches are said to be in maintenance."""
    from tokendance import last_request_id
    from tokendance.gateway.v1 import status_service_pb2 as pb
    from tokendance_cli.node_client import admin_client
    from tokendance_cli.status_view import MAINTENANCE_COLUMNS, maintenance_row
    from tokendance_cli.tenant_view import show

    wanted = pb.Maintenance(
        title=title,
        description=description,
        models=model or (),
        start_time=_time(begins, "--begins"),
        end_time=_time(ends, "--ends"),
    )
    request = pb.CreateMaintenanceRequest(maintenance=wanted, request_id=request_id)
    with admin_client(context, data_dir) as client:
        made = client.stubs.status.CreateMaintenance(request).maintenance
    pairs = list(zip(MAINTENANCE_COLUMNS, maintenance_row(made), strict=True))
    show(form_of(context, form), made, [*pairs, ("etag", made.etag)])
    show_request_id(last_request_id())


@maintenance.command("move")
def move_maintenance(
    context: typer.Context,
    work: Work,
    *,
    begins: Annotated[str, typer.Option(help="When it begins now.", show_default=False)] = "",
    ends: Annotated[str, typer.Option(help="When it ends now.", show_default=False)] = "",
    etag: Etag = "",
    data_dir: DataDir = None,
) -> None:
    """Give maintenance that is not over another begin or end."""
    from tokendance.gateway.v1 import status_service_pb2 as pb

    wanted = pb.Maintenance(name=work, etag=etag)
    paths = []
    for path, option, text in (("start_time", "--begins", begins), ("end_time", "--ends", ends)):
        if text:
            getattr(wanted, path).CopyFrom(_time(text, option))
            paths.append(path)
    if not paths:
        raise CommandError("Give --begins or --ends.", exit_code=USAGE)
    _change(context, wanted, paths, data_dir)


@maintenance.command("cancel")
def cancel_maintenance(
    context: typer.Context, work: Work, *, etag: Etag = "", yes: Yes = False, data_dir: DataDir = None
) -> None:
    """Say that maintenance will not take place."""
    from tokendance.gateway.v1 import status_service_pb2 as pb
    from tokendance_cli.tenant_words import agree

    agree(f"{work} is cancelled, and everybody is told.", yes=yes)
    _change(context, pb.Maintenance(name=work, cancelled=True, etag=etag), ["cancelled"], data_dir)


def _change(context: typer.Context, wanted: Any, paths: list[str], data_dir: DataDir) -> None:
    from google.protobuf.field_mask_pb2 import FieldMask

    from tokendance import last_request_id
    from tokendance.gateway.v1 import status_service_pb2 as pb
    from tokendance_cli.node_client import admin_client

    request = pb.UpdateMaintenanceRequest(maintenance=wanted, update_mask=FieldMask(paths=paths))
    with admin_client(context, data_dir) as client:
        changed = client.stubs.status.UpdateMaintenance(request).maintenance
    typer.echo(f"{changed.name} is changed.", err=True)
    show_request_id(last_request_id())


def _time(text: str, option: str) -> Timestamp:
    from google.protobuf.timestamp_pb2 import Timestamp

    from tokendance_cli.usage_view import time_of

    stamp = Timestamp()
    stamp.FromDatetime(time_of(text, option))
    return stamp
