"""Organizations: listed, made, stopped and let go on."""

from __future__ import annotations

from google.protobuf.field_mask_pb2 import FieldMask

from tokendance.gateway.v1 import organization_pb2
from tokendance.gateway.v1 import organizations_service_pb2 as pb
from tokendance_facade.console import words
from tokendance_facade.console.pages.paging import PAGE_SIZE, filters, first_href, next_href, number, page_token
from tokendance_facade.console.views import Action, Actions, Cell, Field, Form, Notice, Table, View
from tokendance_facade.console.visit import PLATFORM, Visit
from tokendance_facade.console.words import ORGANIZATION_STATE

_LIST = "/console/organizations"
_TRAIL = [(_LIST, "Organizations")]


async def list_organizations(visit: Visit) -> View:
    """Show every organization."""
    query = visit.query
    request = pb.ListOrganizationsRequest(
        page_size=PAGE_SIZE,
        page_token=page_token(visit),
        query=query.get("words"),
        state=number(query.get("state")),  # type: ignore[arg-type] # the server refuses unknown numbers
    )
    found = await visit.call(visit.stubs.organizations.ListOrganizations, request)
    manages = visit.is_any(PLATFORM)
    rows = []
    for one in found.organizations:
        path = f"/console/{words.id_of(one.name)}"
        rows.append(
            [
                Cell(one.display_name, href=f"{path}/overview", hint=words.id_of(one.name)),
                words.state(ORGANIZATION_STATE, one.state),
                Cell(one.contact or words.NOTHING),
                words.moment(one, "create_time"),
                Cell("Change", href=f"{path}/settings") if manages else Cell(words.NOTHING),
            ]
        )
    states = words.options(ORGANIZATION_STATE, anything="any state")
    fields = [
        Field("words", "Name", value=query.get("words")),
        Field("state", "State", "select", query.get("state"), options=states),
    ]
    table = Table(
        "", ["Organization", "State", "Contact", "Made", "What to do"], rows, "No organization matches.", "",
        next_href(visit, found.next_page_token), first_href(visit),
    )  # fmt: skip
    new = [Actions([Action("New organization", f"{_LIST}/new", "primary")])] if manages else []
    return View("Organizations", [*new, filters(visit, fields), table], "Each has its own people, keys and limits.")


def _fields(organization: organization_pb2.Organization) -> list[Field]:
    return [
        Field("display_name", "Name", value=organization.display_name, required=True, longest=100),
        Field("contact", "Whom callers ask for help", value=organization.contact, longest=200),
    ]


async def ask_new(visit: Visit) -> View:
    """Ask what a new organization is called."""
    path = visit.exchange.path
    form = Form(path, _fields(organization_pb2.Organization()), "Make it", visit.csrf(path), cancel=_LIST)
    return View("New organization", [form], trail=_TRAIL)


async def new(visit: Visit) -> str:
    """Make an organization."""
    wanted = organization_pb2.Organization(
        display_name=visit.form.get("display_name"), contact=visit.form.get("contact")
    )
    request = pb.CreateOrganizationRequest(organization=wanted)
    made = (await visit.call(visit.stubs.organizations.CreateOrganization, request)).organization
    return f"/console/{words.id_of(made.name)}/overview"


async def settings(visit: Visit) -> View:
    """Show what of an organization can be changed."""
    request = pb.GetOrganizationRequest(name=visit.organization)
    found = (await visit.call(visit.stubs.organizations.GetOrganization, request)).organization
    path = visit.exchange.path
    form = Form(path, _fields(found), "Save", visit.csrf(path), cancel=_LIST, hidden=[("etag", found.etag)])
    if found.state == organization_pb2.ORGANIZATION_STATE_SUSPENDED:
        stop = Actions([Action("Let it go on", f"{visit.base}/resume")])
    else:
        stop = Actions([Action("Suspend the organization", f"{visit.base}/suspend", "danger")])
    return View(found.display_name, [form, stop], found.name, _TRAIL)


async def change(visit: Visit) -> str:
    """Change an organization."""
    form = visit.form
    wanted = organization_pb2.Organization(
        name=visit.organization,
        display_name=form.get("display_name"),
        contact=form.get("contact"),
        etag=form.get("etag"),
    )
    mask = FieldMask(paths=["display_name", "contact"])
    request = pb.UpdateOrganizationRequest(organization=wanted, update_mask=mask)
    await visit.call(visit.stubs.organizations.UpdateOrganization, request)
    return _LIST


async def ask_suspend(visit: Visit) -> View:
    """Ask whether to suspend an organization, and say what will happen."""
    path = visit.exchange.path
    form = Form(
        path, [Field("reason", "Why, for the audit trail", required=True, longest=500)], "Suspend", visit.csrf(path),
        danger=True, cancel=f"{visit.base}/settings",
    )  # fmt: skip
    told = [
        "Every call with its keys is refused, and streams end.",
        "Its people are signed out.",
        "Nothing is deleted.",
    ]
    return View("Suspend the organization", [Notice("Within a second:", "warn", told), form], trail=_TRAIL)


async def suspend(visit: Visit) -> str:
    """Suspend an organization."""
    request = pb.SuspendOrganizationRequest(name=visit.organization, reason=visit.form.get("reason"))
    await visit.call(visit.stubs.organizations.SuspendOrganization, request)
    return _LIST


async def ask_resume(visit: Visit) -> View:
    """Ask whether to let an organization go on."""
    path = visit.exchange.path
    form = Form(path, [], "Let it go on", visit.csrf(path), cancel=f"{visit.base}/settings")
    return View("Let the organization go on", [Notice("Its keys work again, and its people can sign in."), form])


async def resume(visit: Visit) -> str:
    """Let an organization go on."""
    request = pb.ResumeOrganizationRequest(name=visit.organization)
    await visit.call(visit.stubs.organizations.ResumeOrganization, request)
    return _LIST
