"""Teams and members of an organization: made, changed, stopped and taken out."""

from __future__ import annotations

from google.protobuf.field_mask_pb2 import FieldMask

from tokendance.gateway.v1 import organization_pb2
from tokendance.gateway.v1 import organizations_service_pb2 as pb
from tokendance_facade.console import words
from tokendance_facade.console.pages.names import Names, member_label, read_names
from tokendance_facade.console.pages.paging import PAGE_SIZE, filters, first_href, next_href, number, page_token
from tokendance_facade.console.views import Action, Actions, Block, Cell, Facts, Field, Form, Notice, Table, View
from tokendance_facade.console.visit import MANAGERS, Visit
from tokendance_facade.console.words import MEMBER_ROLE, MEMBER_STATE

_FATES = [(str(one), words.word(organization_pb2.OrphanedKeys, one) or "as the policy says")
          for one in organization_pb2.OrphanedKeys.values()]  # fmt: skip


async def list_teams(visit: Visit) -> View:
    """Show the teams that the person may see."""
    request = pb.ListTeamsRequest(
        parent=visit.organization, page_size=PAGE_SIZE, page_token=page_token(visit), query=visit.query.get("words")
    )
    found = await visit.call(visit.stubs.organizations.ListTeams, request)
    manages = visit.is_any(MANAGERS)
    rows = [
        [
            Cell(one.display_name, href=f"{visit.base}/teams/{words.id_of(one.name)}" if manages else ""),
            Cell(one.description or words.NOTHING),
            Cell(words.count(one.member_count), kind="number", href=f"{visit.base}/members?team={one.name}" * manages),
            Cell(words.count(one.key_count), kind="number", href=f"{visit.base}/keys?team={one.name}"),
        ]
        for one in found.teams
    ]
    table = Table(
        "", ["Team", "What it is for", "Members", "Keys that work"], rows, "There is no team yet.",
        "Keys and quotas belong to teams.", next_href(visit, found.next_page_token), first_href(visit),
    )  # fmt: skip
    new = [Actions([Action("New team", f"{visit.base}/teams/new", "primary")])] if manages else []
    search = filters(visit, [Field("words", "Name", value=visit.query.get("words"))])
    return View("Teams", [*new, search, table])


def _team_fields(team: organization_pb2.Team) -> list[Field]:
    return [
        Field("display_name", "Name", value=team.display_name, required=True, longest=100),
        Field("description", "What it is for", "area", team.description, longest=500),
    ]


async def ask_new_team(visit: Visit) -> View:
    """Ask what a new team is called."""
    path = visit.exchange.path
    form = Form(
        path, _team_fields(organization_pb2.Team()), "Make the team", visit.csrf(path), cancel=f"{visit.base}/teams"
    )
    return View("New team", [form], trail=[(f"{visit.base}/teams", "Teams")])


async def new_team(visit: Visit) -> str:
    """Make a team."""
    team = organization_pb2.Team(display_name=visit.form.get("display_name"), description=visit.form.get("description"))
    await visit.call(visit.stubs.organizations.CreateTeam, pb.CreateTeamRequest(parent=visit.organization, team=team))
    return f"{visit.base}/teams"


async def ask_team(visit: Visit) -> View:
    """Show a team to be changed, or deleted where nothing is in it."""
    name = f"{visit.organization}/teams/{visit.path['id']}"
    team = (await visit.call(visit.stubs.organizations.GetTeam, pb.GetTeamRequest(name=name))).team
    path = visit.exchange.path
    form = Form(
        path, _team_fields(team), "Save", visit.csrf(path), cancel=f"{visit.base}/teams", hidden=[("etag", team.etag)],
        second=("delete", "Delete the team"),
    )  # fmt: skip
    told = Notice("A team can be deleted once no member and no key is in it; its usage stays in the records.")
    return View(team.display_name, [form, told], team.name, [(f"{visit.base}/teams", "Teams")])


async def change_team(visit: Visit) -> str | View:
    """Change or delete a team."""
    name, form = f"{visit.organization}/teams/{visit.path['id']}", visit.form
    path = visit.exchange.path
    if form.get("do") == "delete":
        sure = Form(
            path, [], "Delete the team", visit.csrf(path), danger=True, cancel=path,
            hidden=[("do", "delete-now"), ("etag", form.get("etag"))],
        )  # fmt: skip
        return View("Delete the team?", [Notice("The team is gone then; it cannot be brought back.", "warn"), sure])
    if form.get("do") == "delete-now":
        await visit.call(visit.stubs.organizations.DeleteTeam, pb.DeleteTeamRequest(name=name, etag=form.get("etag")))
        return f"{visit.base}/teams"
    team = organization_pb2.Team(
        name=name, display_name=form.get("display_name"), description=form.get("description"), etag=form.get("etag")
    )
    mask = FieldMask(paths=["display_name", "description"])
    await visit.call(visit.stubs.organizations.UpdateTeam, pb.UpdateTeamRequest(team=team, update_mask=mask))
    return f"{visit.base}/teams"


async def list_members(visit: Visit) -> View:
    """Show the members of the organization."""
    query = visit.query
    names = await read_names(visit)
    request = pb.ListMembersRequest(
        parent=visit.organization,
        page_size=PAGE_SIZE,
        page_token=page_token(visit),
        team=query.get("team"),
        role=number(query.get("role")),  # type: ignore[arg-type] # the server refuses unknown numbers
        state=number(query.get("state")),  # type: ignore[arg-type] # the server refuses unknown numbers
        query=query.get("words"),
    )
    found = await visit.call(visit.stubs.organizations.ListMembers, request)
    table = Table(
        "",
        ["Member", "State", "Roles", "Teams", "Keys that work", "Signed in last"],
        [_member_row(visit, one, names) for one in found.members],
        "No member matches.",
        "Invite somebody by their address at the identity provider.",
        next_href(visit, found.next_page_token),
        first_href(visit),
    )
    fields = [
        Field("words", "Name or address", value=query.get("words")),
        Field("team", "Team", "select", query.get("team"), options=[("", "every team"), *names.teams]),
        Field("role", "Role", "select", query.get("role"), options=words.options(MEMBER_ROLE, anything="any role")),
        Field(
            "state", "State", "select", query.get("state"), options=words.options(MEMBER_STATE, anything="any state")
        ),
    ]
    new = (
        [Actions([Action("Invite a member", f"{visit.base}/members/new", "primary")])] if visit.is_any(MANAGERS) else []
    )
    return View("Members", [*new, filters(visit, fields), table])


def _member_row(visit: Visit, member: organization_pb2.Member, names: Names) -> list[Cell]:
    return [
        Cell(member_label(member), href=f"{visit.base}/members/{words.id_of(member.name)}", hint=member.email),
        words.state(MEMBER_STATE, member.state),
        Cell(", ".join(words.word(MEMBER_ROLE, one) for one in member.roles)),
        Cell(", ".join(names.of(one) for one in member.teams) or words.NOTHING),
        Cell(words.count(member.key_count), kind="number", href=f"{visit.base}/keys?owner={member.name}"),
        words.moment(member, "last_sign_in_time"),
    ]


def _member_fields(member: organization_pb2.Member, names: Names, *, new: bool) -> list[Field]:
    who = [
        Field("email", "Address at the identity provider", "email", member.email, longest=320,
              hint="With their first sign-in under this verified address they become a member."),
        Field("subject", "Subject at the identity provider", value=member.subject, longest=255,
              hint="Where it is known; then the address is not needed."),
    ]  # fmt: skip
    roles = [str(one) for one in member.roles]
    return [
        Field("display_name", "Name", value=member.display_name, longest=100),
        *(who if new else []),
        Field("roles", "Roles", "checks", chosen=roles or ["1"], options=words.options(MEMBER_ROLE)),
        Field("teams", "Teams", "checks", chosen=list(member.teams), options=names.teams),
    ]


async def ask_new_member(visit: Visit) -> View:
    """Ask whom to invite."""
    visit.require_fresh()
    names = await read_names(visit)
    path = visit.exchange.path
    fields = _member_fields(organization_pb2.Member(), names, new=True)
    form = Form(path, fields, "Invite", visit.csrf(path), cancel=f"{visit.base}/members")
    return View("Invite a member", [form], trail=[(f"{visit.base}/members", "Members")])


async def new_member(visit: Visit) -> str:
    """Invite a member."""
    visit.require_fresh()
    form = visit.form
    member = organization_pb2.Member(
        display_name=form.get("display_name"),
        email=form.get("email"),
        subject=form.get("subject"),
        roles=[number(one) for one in form.all("roles")],  # type: ignore[misc] # the server refuses unknown numbers
        teams=form.all("teams"),
    )
    request = pb.CreateMemberRequest(parent=visit.organization, member=member)
    made = (await visit.call(visit.stubs.organizations.CreateMember, request)).member
    return f"{visit.base}/members/{words.id_of(made.name)}"


async def show_member(visit: Visit) -> View:
    """Show a member, and what can be changed of them."""
    member = await _read_member(visit)
    names = await read_names(visit)
    pairs = [
        ("State", words.state(MEMBER_STATE, member.state)),
        ("Address", Cell(member.email or words.NOTHING)),
        ("Subject", Cell(member.subject or "not signed in yet", kind="mono")),
        ("Roles", Cell(", ".join(words.word(MEMBER_ROLE, one) for one in member.roles))),
        ("Teams", Cell(", ".join(names.of(one) for one in member.teams) or words.NOTHING)),
        ("Keys that work", Cell(words.count(member.key_count), href=f"{visit.base}/keys?owner={member.name}")),
        ("Signed in last", words.moment(member, "last_sign_in_time")),
    ]
    path = visit.exchange.path
    actions: list[Action] = []
    if visit.is_any(MANAGERS):
        actions = [
            Action("Change", f"{path}/change"),
            Action("Their limits", f"{visit.base}/quota/change?of={member.name}"),
        ]
        if member.state == organization_pb2.MEMBER_STATE_SUSPENDED:
            actions.append(Action("Let in again", f"{path}/resume"))
        elif member.state != organization_pb2.MEMBER_STATE_REMOVED:
            actions.append(Action("Suspend", f"{path}/suspend", "danger"))
        if member.state != organization_pb2.MEMBER_STATE_REMOVED:
            actions.append(Action("Take out", f"{path}/remove", "danger"))
    blocks: list[Block] = [Facts("", pairs)]
    if actions:
        blocks.append(Actions(actions))
    return View(member_label(member), blocks, member.name, [(f"{visit.base}/members", "Members")])


async def ask_change_member(visit: Visit) -> View:
    """Show what of a member can be changed."""
    visit.require_fresh()
    member = await _read_member(visit)
    names = await read_names(visit)
    path = visit.exchange.path
    form = Form(
        path, _member_fields(member, names, new=False), "Save", visit.csrf(path), cancel=path.rpartition("/")[0],
        hidden=[("etag", member.etag)],
    )  # fmt: skip
    blocks: list[Block] = [form]
    if member.externally_managed:
        blocks.insert(0, Notice("The identity provider overwrites roles and teams at the next sign-in.", "warn"))
    return View(f"Change {member_label(member)}", blocks, trail=[(f"{visit.base}/members", "Members")])


async def change_member(visit: Visit) -> str:
    """Change a member's name, roles and teams."""
    visit.require_fresh()
    form = visit.form
    member = organization_pb2.Member(
        name=_name(visit),
        display_name=form.get("display_name"),
        roles=[number(one) for one in form.all("roles")],  # type: ignore[misc] # the server refuses unknown numbers
        teams=form.all("teams"),
        etag=form.get("etag"),
    )
    mask = FieldMask(paths=["display_name", "roles", "teams"])
    await visit.call(visit.stubs.organizations.UpdateMember, pb.UpdateMemberRequest(member=member, update_mask=mask))
    return f"{visit.base}/members/{visit.path['id']}"


async def ask_suspend(visit: Visit) -> View:
    """Ask whether to suspend a member, and what becomes of their keys."""
    member = await _read_member(visit)
    told = ["Their sessions end within a second, here and on the command line.", _of_keys(member)]
    return await _ask_end(visit, member, f"Suspend {member_label(member)}", "Suspend", told)


async def suspend(visit: Visit) -> str:
    """Suspend a member."""
    form = visit.form
    request = pb.SuspendMemberRequest(
        name=_name(visit), reason=form.get("reason"), keys=number(form.get("keys")), keys_owner=form.get("keys_owner")  # type: ignore[arg-type] # checked there
    )  # fmt: skip
    await visit.call(visit.stubs.organizations.SuspendMember, request)
    return f"{visit.base}/members/{visit.path['id']}"


async def ask_remove(visit: Visit) -> View:
    """Ask whether to take a member out."""
    member = await _read_member(visit)
    told = ["They can no longer sign in here, and their sessions end within a second.", _of_keys(member)]
    return await _ask_end(visit, member, f"Take out {member_label(member)}", "Take out", told)


async def remove(visit: Visit) -> str:
    """Take a member out."""
    form = visit.form
    request = pb.DeleteMemberRequest(
        name=_name(visit), reason=form.get("reason"), keys=number(form.get("keys")), keys_owner=form.get("keys_owner")  # type: ignore[arg-type] # checked there
    )  # fmt: skip
    await visit.call(visit.stubs.organizations.DeleteMember, request)
    return f"{visit.base}/members"


async def ask_resume(visit: Visit) -> View:
    """Ask whether to let a member in again."""
    member = await _read_member(visit)
    path = visit.exchange.path
    form = Form(path, [], "Let in again", visit.csrf(path), cancel=path.rpartition("/")[0])
    told = Notice("They can sign in again. Their keys stay as they are: resume those that should work.")
    return View(f"Let in {member_label(member)}", [told, form])


async def resume(visit: Visit) -> str:
    """Let a member in again."""
    await visit.call(visit.stubs.organizations.ResumeMember, pb.ResumeMemberRequest(name=_name(visit)))
    return f"{visit.base}/members/{visit.path['id']}"


async def _ask_end(visit: Visit, member: organization_pb2.Member, title: str, submit: str, told: list[str]) -> View:
    names = await read_names(visit)
    others = [("", "as the policy says"), *(one for one in names.members if one[0] != member.name)]
    fields = [
        Field("reason", "Why, for the audit trail", required=True, longest=500),
        Field("keys", "What becomes of their keys", "select", "0", options=_FATES),
        Field("keys_owner", "Who gets the keys, where they are reassigned", "select", options=others),
    ]
    path = visit.exchange.path
    form = Form(path, fields, submit, visit.csrf(path), danger=True, cancel=path.rpartition("/")[0])
    return View(title, [Notice("This is what will happen:", "warn", told), form])


def _of_keys(member: organization_pb2.Member) -> str:
    return f"They own {member.key_count:,} keys that work; those fare as you choose below."


async def _read_member(visit: Visit) -> organization_pb2.Member:
    request = pb.GetMemberRequest(name=_name(visit))
    member: organization_pb2.Member = (await visit.call(visit.stubs.organizations.GetMember, request)).member
    return member


def _name(visit: Visit) -> str:
    return f"{visit.organization}/members/{visit.path['id']}"
