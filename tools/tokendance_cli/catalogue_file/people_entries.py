"""Organizations, teams, members and policies in the plain form of entries, from a file and from a node alike."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from tokendance.gateway.v1 import organization_pb2 as pb
from tokendance.gateway.v1 import organizations_service_pb2 as rpc
from tokendance.gateway.v1 import quota_pb2
from tokendance_cli.catalogue_file.entries import Entry
from tokendance_cli.catalogue_file.positions import Path, Problem
from tokendance_cli.catalogue_file.schema import Declared

if TYPE_CHECKING:
    from tokendance import Client
    from tokendance_cli.catalogue_file.people_schema import DeclaredMember, DeclaredOrganization, DeclaredPolicy

DAY_S = 86_400
_PAGE = 1000


def declared_people(declared: Declared) -> Iterator[Entry]:
    """Yield what a file declares of organizations, each before what is in it."""
    for number, one in enumerate(declared.content.organizations):
        path: Path = ("organizations", number)
        fields = {"contact": one.contact, "labels": dict(sorted(one.labels.items()))}
        yield Entry("organization", one.display_name, fields, path=path)
        yield from _declared_parts(one, path)


def _declared_parts(one: DeclaredOrganization, path: Path) -> Iterator[Entry]:
    for index, team in enumerate(one.teams):
        fields = {"description": team.description, "labels": dict(sorted(team.labels.items()))}
        yield Entry("team", _within(one.display_name, team.display_name), fields, path=(*path, "teams", index))
    for index, member in enumerate(one.members):
        fields = {
            "email": member.email,
            "subject": member.subject,
            "display_name": member.display_name,
            "roles": list(member.roles),
            "teams": list(member.teams),
        }
        yield Entry("member", _within(one.display_name, member.handle), fields, path=(*path, "members", index))
    if one.policy is not None:
        yield Entry("policy", one.display_name, _declared_policy(one.policy), path=(*path, "policy"))


def _declared_policy(policy: DeclaredPolicy) -> dict[str, Any]:
    fields: dict[str, Any] = policy.model_dump(mode="json")
    fields["excluded_route_tags"] = sorted(policy.excluded_route_tags)
    fields["orphaned_keys_owner"] = policy.orphaned_keys_owner.casefold()
    for rule in fields["issuance_rules"]:
        rule["teams"], rule["models"] = sorted(rule["teams"]), sorted(rule["models"])
    return fields


def team_problems(declared: Declared, kept: Mapping[tuple[str, str], Entry]) -> Iterator[Problem]:
    """Yield every team that a member or a rule names and that is neither in the file nor on the node."""
    for number, one in enumerate(declared.content.organizations):
        known = {team.display_name for team in one.teams}
        known |= {name.partition(" / ")[2] for kind, name in kept if kind == "team" and _is_in(name, one.display_name)}
        path: Path = ("organizations", number)
        named = [((*path, "members", index), member.teams) for index, member in enumerate(one.members)]
        rules = one.policy.issuance_rules if one.policy else ()
        named += [((*path, "policy", "issuance_rules", index), rule.teams) for index, rule in enumerate(rules)]
        for place, teams in named:
            for team in teams:
                if team not in known:
                    message = f"there is no team {team} in {one.display_name}, neither in the file nor on the node"
                    yield Problem(declared.document.place_of((*place, "teams")), message)


def kept_people(client: Client, declared: Declared) -> tuple[list[Entry], list[Problem]]:
    """Return what the node has of the organizations that a file names, and those that cannot be told apart there.

    Raises GatewayError.
    """
    wanted = {one.display_name: number for number, one in enumerate(declared.content.organizations)}
    if not wanted:
        return [], []
    found: dict[str, list[pb.Organization]] = {name: [] for name in wanted}
    for one in _all(client.stubs.organizations.ListOrganizations, rpc.ListOrganizationsRequest(), "organizations"):
        if one.display_name in found and one.state != pb.ORGANIZATION_STATE_ERASED:
            found[one.display_name].append(one)
    problems = []
    entries: list[Entry] = []
    for name, organizations in found.items():
        if len(organizations) > 1:
            place = declared.document.place_of(("organizations", wanted[name], "display_name"))
            problems.append(Problem(place, f"{len(organizations)} organizations of the node are named {name}"))
        for one in organizations[:1]:
            entries += _kept_organization(client, one, declared.content.organizations[wanted[name]])
    return entries, problems


def _kept_organization(client: Client, one: pb.Organization, declared: DeclaredOrganization) -> Iterator[Entry]:
    stub, name = client.stubs.organizations, one.display_name
    fields = {"contact": one.contact, "labels": dict(sorted(one.labels.items()))}
    yield Entry("organization", name, fields, one.etag, resource=one.name)
    teams: dict[str, str] = {}
    for team in _all(stub.ListTeams, rpc.ListTeamsRequest(parent=one.name), "teams"):
        teams[team.name] = team.display_name
        fields = {"description": team.description, "labels": dict(sorted(team.labels.items()))}
        yield Entry("team", _within(name, team.display_name), fields, team.etag, resource=team.name)
    handles: dict[str, str] = {}
    for member in _all(stub.ListMembers, rpc.ListMembersRequest(parent=one.name), "members"):
        if member.state == pb.MEMBER_STATE_REMOVED:
            continue
        wanted = _wanted(member, declared)
        handles[member.name] = wanted.handle if wanted else member.email.casefold() or member.subject
        yield _kept_member(member, _within(name, handles[member.name]), teams, wanted)
    policy = stub.GetPolicy(rpc.GetPolicyRequest(name=f"{one.name}/policy")).policy
    yield Entry("policy", name, _kept_policy(policy, teams, handles), policy.etag, resource=policy.name)


def _wanted(member: pb.Member, declared: DeclaredOrganization) -> DeclaredMember | None:
    """Return what the file says of a member, whom it may know by either of two names."""
    known = {member.email.casefold(), member.subject} - {""}
    return next((one for one in declared.members if one.handle in known), None)


def _kept_member(member: pb.Member, name: str, teams: Mapping[str, str], wanted: DeclaredMember | None) -> Entry:
    fields: dict[str, Any] = {
        "email": member.email,
        "subject": member.subject,
        "display_name": member.display_name,
        "roles": sorted(pb.MemberRole.Name(role).removeprefix("MEMBER_ROLE_").lower() for role in member.roles),
        "teams": sorted(teams.get(team, team) for team in member.teams),
    }
    for field in ("email", "subject", "display_name"):
        # What the file leaves open is learnt when somebody signs in, and stays.
        if wanted is not None and not getattr(wanted, field):
            fields[field] = ""
    return Entry("member", name, fields, member.etag, resource=member.name)


def _kept_policy(policy: pb.Policy, teams: Mapping[str, str], handles: Mapping[str, str]) -> dict[str, Any]:
    fate = pb.OrphanedKeys.Name(policy.orphaned_keys).removeprefix("ORPHANED_KEYS_").lower()
    owner = policy.orphaned_keys_owner
    return {
        "self_approval": policy.self_approval,
        "reveal_days": _days(policy, "reveal_period"),
        "max_rotation_days": _days(policy, "max_rotation_period"),
        "max_key_lifetime_days": _days(policy, "max_key_lifetime"),
        "orphaned_keys": None if fate == "unspecified" else fate,
        "orphaned_keys_owner": handles.get(owner, owner),
        "excluded_route_tags": sorted(policy.excluded_route_tags),
        "issuance_rules": [
            {
                "display_name": rule.display_name,
                "teams": sorted(teams.get(team, team) for team in rule.teams),
                "models": sorted(rule.models),
                "quota_ceiling": [_kept_limit(limit) for limit in rule.quota_ceiling],
                "max_key_lifetime_days": _days(rule, "max_key_lifetime"),
                "max_keys_per_member": rule.max_keys_per_member if rule.HasField("max_keys_per_member") else None,
            }
            for rule in policy.issuance_rules
        ],
    }


def _days(message: Any, field: str) -> int | None:
    return getattr(message, field).seconds // DAY_S if message.HasField(field) else None


def _kept_limit(limit: quota_pb2.LimitRule) -> dict[str, Any]:
    window = quota_pb2.LimitWindow.Name(limit.window).removeprefix("LIMIT_WINDOW_").lower()
    return {
        "metric": quota_pb2.LimitMetric.Name(limit.metric).removeprefix("LIMIT_METRIC_").lower(),
        "window": None if window == "unspecified" else window,
        "limit": limit.limit,
        "model": limit.model,
    }


def _all(call: Callable[..., Any], request: Any, field: str) -> Iterator[Any]:
    request.page_size = _PAGE
    while True:
        page = call(request)
        yield from getattr(page, field)
        if not page.next_page_token:
            return
        request.page_token = page.next_page_token


def _within(organization: str, name: str) -> str:
    return f"{organization} / {name}"


def _is_in(name: str, organization: str) -> bool:
    return name.startswith(f"{organization} / ")
