"""`tokendance organizations`, `teams` and `members`: lists for who governs them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tokendance_cli.output import Format, FormatOption, form_of, print_json, print_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

app = typer.Typer(
    no_args_is_help=True, help="See the organizations of the node that runs on --data-dir, or of that of a context."
)
teams_app = typer.Typer(
    no_args_is_help=True, help="See the teams of the node that runs on --data-dir, or of that of a context."
)
members_app = typer.Typer(
    no_args_is_help=True, help="See the members of the node that runs on --data-dir, or of that of a context."
)

DataDir = Annotated[Path | None, typer.Option("--data-dir", help="The node's data directory.", show_default=False)]
Of = Annotated[str, typer.Option("--organization", help="Only those of this organization.", show_default=False)]


@app.command("list")
def list_organizations(context: typer.Context, *, data_dir: DataDir = None, form: FormatOption = None) -> None:
    """List the organizations."""
    from tokendance.gateway.v1 import organization_pb2
    from tokendance.gateway.v1 import organizations_service_pb2 as pb
    from tokendance_cli.node_client import admin_client

    with admin_client(context, data_dir) as client:
        request = pb.ListOrganizationsRequest(page_size=1000)
        found = _all(client.stubs.organizations.ListOrganizations, request, "organizations")
    states = organization_pb2.OrganizationState
    rows = [[one.name, _word(states.Name(one.state)), one.display_name, one.contact] for one in found]
    _show(form_of(context, form), found, ["organization", "state", "display name", "contact"], rows)


@teams_app.command("list")
def list_teams(
    context: typer.Context, *, organization: Of = "", data_dir: DataDir = None, form: FormatOption = None
) -> None:
    """List the teams."""
    from tokendance.gateway.v1 import organizations_service_pb2 as pb
    from tokendance_cli.node_client import admin_client

    with admin_client(context, data_dir) as client:
        request = pb.ListTeamsRequest(parent=_parent(organization), page_size=1000)
        found = _all(client.stubs.organizations.ListTeams, request, "teams")
    rows = [[one.name, one.display_name, str(one.member_count), str(one.key_count)] for one in found]
    _show(form_of(context, form), found, ["team", "display name", "members", "working keys"], rows)


@members_app.command("list")
def list_members(
    context: typer.Context, *, organization: Of = "", data_dir: DataDir = None, form: FormatOption = None
) -> None:
    """List the members."""
    from tokendance.gateway.v1 import organization_pb2
    from tokendance.gateway.v1 import organizations_service_pb2 as pb
    from tokendance_cli.node_client import admin_client

    with admin_client(context, data_dir) as client:
        request = pb.ListMembersRequest(parent=_parent(organization), page_size=1000)
        found = _all(client.stubs.organizations.ListMembers, request, "members")
    states, roles = organization_pb2.MemberState, organization_pb2.MemberRole
    rows = [
        [
            one.name,
            _word(states.Name(one.state)),
            ", ".join(_word(roles.Name(role)) for role in one.roles),
            one.display_name or one.email or one.subject,
            str(one.key_count),
        ]
        for one in found
    ]
    _show(form_of(context, form), found, ["member", "state", "roles", "who", "working keys"], rows)


def _all(ask: Callable[[Any], Any], request: Any, field: str) -> list[Any]:
    found: list[Any] = []
    while True:
        page = ask(request)
        found += getattr(page, field)
        request.page_token = page.next_page_token
        if not page.next_page_token:
            return found


def _parent(organization: str) -> str:
    from tokendance_cli.key_request import resource

    return resource("organizations", organization) if organization else "organizations/-"


def _word(name: str) -> str:
    return name.rpartition("_")[2].lower()


def _show(form: Format, found: Iterable[Any], columns: list[str], rows: list[list[str]]) -> None:
    if form is Format.JSON:
        from google.protobuf.json_format import MessageToDict

        print_json([MessageToDict(one, preserving_proto_field_name=True) for one in found])
    else:
        print_rows(columns, rows, empty="There is none.")
