"""`tokendance teams`: listed, shown, created, changed and deleted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from tokendance_cli.failures import show_request_id
from tokendance_cli.output import FormatOption, form_of
from tokendance_cli.tenant_words import DataDir, Etag, Labels, Of, RequestId, TeamArgument, Yes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tokendance.gateway.v1 import organization_pb2
    from tokendance_cli.output import Format

app = typer.Typer(
    no_args_is_help=True, help="Govern the teams of the node that runs on --data-dir, or of that of a context."
)

Description = Annotated[str, typer.Option(help="What the team is for.", show_default=False)]
_CLEARABLE = {"description": "description", "labels": "labels"}


@app.command("list")
def list_teams(
    context: typer.Context,
    *,
    organization: Annotated[str, typer.Option(help="Only those of this organization.", show_default=False)] = "",
    data_dir: DataDir = None,
    form: FormatOption = None,
) -> None:
    """List the teams."""
    from tokendance.gateway.v1 import organizations_service_pb2 as pb
    from tokendance_cli.key_request import resource
    from tokendance_cli.node_client import admin_client
    from tokendance_cli.tenant_view import every, show_rows, team_row

    with admin_client(context, data_dir) as client:
        request = pb.ListTeamsRequest(parent=resource("organizations", organization or "-"))
        found = every(client.stubs.organizations.ListTeams, request, "teams")
    columns = ["team", "display name", "members", "working keys"]
    show_rows(form_of(context, form), found, columns, [team_row(one) for one in found])


@app.command("show")
def show_team(context: typer.Context, team: TeamArgument, data_dir: DataDir = None, form: FormatOption = None) -> None:
    """Show one team."""
    from tokendance.gateway.v1 import organizations_service_pb2 as pb
    from tokendance_cli.node_client import admin_client

    with admin_client(context, data_dir) as client:
        found = client.stubs.organizations.GetTeam(pb.GetTeamRequest(name=team)).team
    _show(form_of(context, form), found)


@app.command("create")
def create_team(
    context: typer.Context,
    *,
    display_name: Annotated[str, typer.Option(help="What people read, once in an organization.")],
    organization: Of = "",
    description: Description = "",
    label: Labels = None,
    request_id: RequestId = "",
    data_dir: DataDir = None,
    form: FormatOption = None,
) -> None:
    """Create a team."""
    from tokendance import last_request_id
    from tokendance.gateway.v1 import organizations_service_pb2 as pb
    from tokendance_cli.node_client import admin_client
    from tokendance_cli.tenant_words import organization_of

    wanted = _wanted(display_name, description, label or ())
    with admin_client(context, data_dir) as client:
        parent = organization_of(client, organization)
        request = pb.CreateTeamRequest(parent=parent, team=wanted, request_id=request_id)
        made = client.stubs.organizations.CreateTeam(request).team
    _show(form_of(context, form), made)
    show_request_id(last_request_id())


@app.command("update")
def update_team(
    context: typer.Context,
    team: TeamArgument,
    *,
    display_name: Annotated[str, typer.Option(help="What people read.", show_default=False)] = "",
    description: Description = "",
    label: Labels = None,
    clear: Annotated[
        list[str] | None, typer.Option(help="Clear description or labels. Repeatable.", show_default=False)
    ] = None,
    etag: Etag = "",
    data_dir: DataDir = None,
    form: FormatOption = None,
) -> None:
    """Change what is said of a team; what is not named stays."""
    from tokendance import last_request_id
    from tokendance.gateway.v1 import organizations_service_pb2 as pb
    from tokendance_cli.node_client import admin_client
    from tokendance_cli.tenant_words import given

    wanted = _wanted(display_name, description, label or ())
    paths = given(wanted, clear or (), _CLEARABLE)
    with admin_client(context, data_dir) as client:
        stub = client.stubs.organizations
        kept = stub.GetTeam(pb.GetTeamRequest(name=team)).team
        wanted.name, wanted.etag = kept.name, etag or kept.etag
        request = pb.UpdateTeamRequest(team=wanted)
        request.update_mask.paths.extend(paths)
        changed = stub.UpdateTeam(request).team
    _show(form_of(context, form), changed)
    show_request_id(last_request_id())


@app.command("delete")
def delete_team(
    context: typer.Context, team: TeamArgument, *, etag: Etag = "", yes: Yes = False, data_dir: DataDir = None
) -> None:
    """Delete a team to which no key, also none that ended, and no member belongs."""
    from tokendance import last_request_id
    from tokendance.gateway.v1 import organizations_service_pb2 as pb
    from tokendance_cli.node_client import admin_client
    from tokendance_cli.tenant_words import agree

    with admin_client(context, data_dir) as client:
        stub = client.stubs.organizations
        kept = stub.GetTeam(pb.GetTeamRequest(name=team)).team
        agree(f"The team {kept.display_name} ({kept.name}) is deleted.", yes=yes)
        stub.DeleteTeam(pb.DeleteTeamRequest(name=kept.name, etag=etag or kept.etag))
    typer.echo(f"The team {kept.name} is deleted.", err=True)
    show_request_id(last_request_id())


def _wanted(display_name: str, description: str, labels: Sequence[str]) -> organization_pb2.Team:
    from tokendance.gateway.v1 import organization_pb2
    from tokendance_cli.key_request import label_of

    return organization_pb2.Team(display_name=display_name, description=description, labels=dict(map(label_of, labels)))


def _show(form: Format, one: organization_pb2.Team) -> None:
    from tokendance_cli.tenant_view import show, team_lines

    show(form, one, team_lines(one))
