"""`tokendance members`: listed, shown, invited, changed and stopped. What takes them out lies in member_end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from tokendance_cli.commands.member_end import erase_member, remove_member, resume_member, suspend_member
from tokendance_cli.failures import show_request_id
from tokendance_cli.output import FormatOption, form_of
from tokendance_cli.tenant_words import DataDir, Etag, MemberArgument, Of, RequestId, Role

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tokendance.gateway.v1 import organization_pb2

app = typer.Typer(
    no_args_is_help=True, help="Govern the members of the node that runs on --data-dir, or of that of a context."
)

Email = Annotated[str, typer.Option(help="The address of who it is.", show_default=False)]
Subject = Annotated[str, typer.Option(help="The subject at the identity provider.", show_default=False)]
DisplayName = Annotated[str, typer.Option(help="What people read.", show_default=False)]
Teams = Annotated[
    list[str] | None,
    typer.Option("--team", help="A team, in place of all before. Repeatable.", show_default=False),
]
_CLEARABLE = {"email": "email", "subject": "subject", "display-name": "display_name", "teams": "teams"}


@app.command("list")
def list_members(
    context: typer.Context,
    *,
    organization: Annotated[str, typer.Option(help="Only those of this organization.", show_default=False)] = "",
    data_dir: DataDir = None,
    form: FormatOption = None,
) -> None:
    """List the members, also those who were taken out."""
    from tokendance.gateway.v1 import organizations_service_pb2 as pb
    from tokendance_cli.key_request import resource
    from tokendance_cli.node_client import admin_client
    from tokendance_cli.tenant_view import every, member_row, show_rows

    with admin_client(context, data_dir) as client:
        request = pb.ListMembersRequest(parent=resource("organizations", organization or "-"))
        found = every(client.stubs.organizations.ListMembers, request, "members")
    columns = ["member", "state", "roles", "who", "working keys"]
    show_rows(form_of(context, form), found, columns, [member_row(one) for one in found])


@app.command("show")
def show_member(
    context: typer.Context,
    member: MemberArgument,
    *,
    organization: Of = "",
    data_dir: DataDir = None,
    form: FormatOption = None,
) -> None:
    """Show one member."""
    from tokendance.gateway.v1 import organizations_service_pb2 as pb
    from tokendance_cli.node_client import admin_client
    from tokendance_cli.tenant_view import member_lines, show
    from tokendance_cli.tenant_words import child

    with admin_client(context, data_dir) as client:
        request = pb.GetMemberRequest(name=child(client, "members", member, organization))
        found = client.stubs.organizations.GetMember(request).member
    show(form_of(context, form), found, member_lines(found))


@app.command("invite")
def invite_member(
    context: typer.Context,
    *,
    email: Email = "",
    subject: Subject = "",
    display_name: DisplayName = "",
    role: Annotated[list[Role] | None, typer.Option(help="What it may do; none: member. Repeatable.")] = None,
    team: Teams = None,
    organization: Of = "",
    request_id: RequestId = "",
    data_dir: DataDir = None,
    form: FormatOption = None,
) -> None:
    """Make a member, who signs in with this subject, or at first with this verified address."""
    from tokendance import last_request_id
    from tokendance.gateway.v1 import organizations_service_pb2 as pb
    from tokendance_cli.node_client import admin_client
    from tokendance_cli.tenant_view import member_lines, show
    from tokendance_cli.tenant_words import organization_of

    teams = team or ()
    with admin_client(context, data_dir) as client:
        parent = organization_of(client, organization, *teams)
        wanted = _wanted(email, subject, display_name, role or (Role.MEMBER,), teams)
        _name_teams(wanted, parent)
        request = pb.CreateMemberRequest(parent=parent, member=wanted, request_id=request_id)
        made = client.stubs.organizations.CreateMember(request).member
    show(form_of(context, form), made, member_lines(made))
    show_request_id(last_request_id())


@app.command("update")
def update_member(
    context: typer.Context,
    member: MemberArgument,
    *,
    email: Email = "",
    subject: Subject = "",
    display_name: DisplayName = "",
    role: Annotated[
        list[Role] | None,
        typer.Option(help="What it may do, in place of all before. Repeatable.", show_default=False),
    ] = None,
    team: Teams = None,
    clear: Annotated[
        list[str] | None,
        typer.Option(help="Clear email, subject, display-name or teams. Repeatable.", show_default=False),
    ] = None,
    organization: Of = "",
    etag: Etag = "",
    data_dir: DataDir = None,
    form: FormatOption = None,
) -> None:
    """Change what is said of a member; what is not named stays."""
    from tokendance import last_request_id
    from tokendance.gateway.v1 import organizations_service_pb2 as pb
    from tokendance_cli.node_client import admin_client
    from tokendance_cli.tenant_view import member_lines, show
    from tokendance_cli.tenant_words import child, given

    wanted = _wanted(email, subject, display_name, role or (), team or ())
    paths = given(wanted, clear or (), _CLEARABLE)
    with admin_client(context, data_dir) as client:
        stub, name = client.stubs.organizations, child(client, "members", member, organization)
        kept = stub.GetMember(pb.GetMemberRequest(name=name)).member
        _name_teams(wanted, "/".join(kept.name.split("/")[:2]))
        wanted.name, wanted.etag = kept.name, etag or kept.etag
        request = pb.UpdateMemberRequest(member=wanted)
        request.update_mask.paths.extend(paths)
        changed = stub.UpdateMember(request).member
    show(form_of(context, form), changed, member_lines(changed))
    show_request_id(last_request_id())


app.command("suspend")(suspend_member)
app.command("resume")(resume_member)
app.command("remove")(remove_member)
app.command("erase")(erase_member)


def _wanted(
    email: str, subject: str, display_name: str, roles: Sequence[Role], teams: Sequence[str]
) -> organization_pb2.Member:
    from tokendance.gateway.v1 import organization_pb2 as pb

    numbers = [pb.MemberRole.Value(f"MEMBER_ROLE_{role.name}") for role in dict.fromkeys(roles)]
    return pb.Member(email=email, subject=subject, display_name=display_name, roles=numbers, teams=dict.fromkeys(teams))


def _name_teams(wanted: organization_pb2.Member, organization: str) -> None:
    """Make resource names of the ids of teams."""
    from tokendance_cli.key_request import resource

    wanted.teams[:] = [resource("teams", team, organization) for team in wanted.teams]
