"""`tokendance organizations`: listed, shown, created, changed, stopped and erased."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from tokendance_cli.failures import show_request_id
from tokendance_cli.output import FormatOption, form_of
from tokendance_cli.tenant_words import (
    DataDir,
    DryRun,
    Etag,
    Labels,
    OrganizationArgument,
    Reason,
    RequestId,
    Yes,
    agree,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tokendance.gateway.v1 import organization_pb2
    from tokendance_cli.output import Format

app = typer.Typer(
    no_args_is_help=True, help="Govern the organizations of the node that runs on --data-dir, or of that of a context."
)

Contact = Annotated[str, typer.Option(help="Whom callers should ask for help.", show_default=False)]
_CLEARABLE = {"contact": "contact", "labels": "labels"}


@app.command("list")
def list_organizations(context: typer.Context, *, data_dir: DataDir = None, form: FormatOption = None) -> None:
    """List the organizations."""
    from tokendance.gateway.v1 import organizations_service_pb2 as pb
    from tokendance_cli.node_client import admin_client
    from tokendance_cli.tenant_view import every, organization_row, show_rows

    with admin_client(context, data_dir) as client:
        ask = client.stubs.organizations.ListOrganizations
        found = every(ask, pb.ListOrganizationsRequest(), "organizations")
    columns = ["organization", "state", "display name", "contact"]
    show_rows(form_of(context, form), found, columns, [organization_row(one) for one in found])


@app.command("show")
def show_organization(
    context: typer.Context, organization: OrganizationArgument, data_dir: DataDir = None, form: FormatOption = None
) -> None:
    """Show one organization."""
    from tokendance.gateway.v1 import organizations_service_pb2 as pb
    from tokendance_cli.node_client import admin_client

    with admin_client(context, data_dir) as client:
        request = pb.GetOrganizationRequest(name=organization)
        found = client.stubs.organizations.GetOrganization(request).organization
    _show(form_of(context, form), found)


@app.command("create")
def create_organization(
    context: typer.Context,
    *,
    display_name: Annotated[str, typer.Option(help="What people read.")],
    contact: Contact = "",
    label: Labels = None,
    request_id: RequestId = "",
    data_dir: DataDir = None,
    form: FormatOption = None,
) -> None:
    """Create an organization."""
    from tokendance import last_request_id
    from tokendance.gateway.v1 import organizations_service_pb2 as pb
    from tokendance_cli.node_client import admin_client

    wanted = _wanted(display_name, contact, label or ())
    with admin_client(context, data_dir) as client:
        request = pb.CreateOrganizationRequest(organization=wanted, request_id=request_id)
        made = client.stubs.organizations.CreateOrganization(request).organization
    _show(form_of(context, form), made)
    show_request_id(last_request_id())


@app.command("update")
def update_organization(
    context: typer.Context,
    organization: OrganizationArgument,
    *,
    display_name: Annotated[str, typer.Option(help="What people read.", show_default=False)] = "",
    contact: Contact = "",
    label: Labels = None,
    clear: Annotated[
        list[str] | None, typer.Option(help="Clear contact or labels. Repeatable.", show_default=False)
    ] = None,
    etag: Etag = "",
    data_dir: DataDir = None,
    form: FormatOption = None,
) -> None:
    """Change what is said of an organization; what is not named stays."""
    from tokendance import last_request_id
    from tokendance.gateway.v1 import organizations_service_pb2 as pb
    from tokendance_cli.node_client import admin_client
    from tokendance_cli.tenant_words import given

    wanted = _wanted(display_name, contact, label or ())
    paths = given(wanted, clear or (), _CLEARABLE)
    with admin_client(context, data_dir) as client:
        stub = client.stubs.organizations
        kept = stub.GetOrganization(pb.GetOrganizationRequest(name=organization)).organization
        wanted.name, wanted.etag = kept.name, etag or kept.etag
        request = pb.UpdateOrganizationRequest(organization=wanted)
        request.update_mask.paths.extend(paths)
        changed = stub.UpdateOrganization(request).organization
    _show(form_of(context, form), changed)
    show_request_id(last_request_id())


@app.command("suspend")
def suspend_organization(
    context: typer.Context,
    organization: OrganizationArgument,
    *,
    reason: Reason,
    data_dir: DataDir = None,
    form: FormatOption = None,
) -> None:
    """Stop an organization until it is resumed: its keys are refused within a second on every node."""
    from tokendance import last_request_id
    from tokendance.gateway.v1 import organizations_service_pb2 as pb
    from tokendance_cli.node_client import admin_client

    with admin_client(context, data_dir) as client:
        request = pb.SuspendOrganizationRequest(name=organization, reason=reason)
        changed = client.stubs.organizations.SuspendOrganization(request).organization
    _show(form_of(context, form), changed)
    show_request_id(last_request_id())


@app.command("resume")
def resume_organization(
    context: typer.Context, organization: OrganizationArgument, data_dir: DataDir = None, form: FormatOption = None
) -> None:
    """Let a suspended organization work again."""
    from tokendance import last_request_id
    from tokendance.gateway.v1 import organizations_service_pb2 as pb
    from tokendance_cli.node_client import admin_client

    with admin_client(context, data_dir) as client:
        request = pb.ResumeOrganizationRequest(name=organization)
        changed = client.stubs.organizations.ResumeOrganization(request).organization
    _show(form_of(context, form), changed)
    show_request_id(last_request_id())


@app.command("erase")
def erase_organization(
    context: typer.Context,
    organization: OrganizationArgument,
    *,
    reason: Reason,
    etag: Etag = "",
    dry_run: DryRun = False,
    yes: Yes = False,
    data_dir: DataDir = None,
    form: FormatOption = None,
) -> None:
    """Erase a suspended organization: keys end, personal data goes, totals stay. There is no way back."""
    from tokendance import last_request_id
    from tokendance.gateway.v1 import organizations_service_pb2 as pb
    from tokendance_cli.node_client import admin_client
    from tokendance_cli.tenant_view import erasure_lines, show

    with admin_client(context, data_dir) as client:
        stub = client.stubs.organizations
        kept = stub.GetOrganization(pb.GetOrganizationRequest(name=organization)).organization
        request = pb.EraseOrganizationRequest(name=kept.name, etag=etag or kept.etag, reason=reason, validate_only=True)
        summary = stub.EraseOrganization(request).summary
        if not dry_run:
            agree(
                f"{kept.display_name} ({kept.name}) is erased for good, with {summary.members} members "
                f"and {summary.keys} keys.",
                yes=yes,
            )
            request.validate_only = False
            summary = stub.EraseOrganization(request).summary
    show(form_of(context, form), summary, erasure_lines(summary, "only counted" if dry_run else "done"))
    show_request_id(last_request_id())


def _wanted(display_name: str, contact: str, labels: Sequence[str]) -> organization_pb2.Organization:
    from tokendance.gateway.v1 import organization_pb2
    from tokendance_cli.key_request import label_of

    return organization_pb2.Organization(display_name=display_name, contact=contact, labels=dict(map(label_of, labels)))


def _show(form: Format, one: organization_pb2.Organization) -> None:
    from tokendance_cli.tenant_view import organization_lines, show

    show(form, one, organization_lines(one))
