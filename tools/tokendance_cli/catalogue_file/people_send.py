"""Changes of organizations and what is in them, made on a node: names of the file become resource names on the way."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask

from tokendance.gateway.v1 import organization_pb2 as pb
from tokendance.gateway.v1 import organizations_service_pb2 as rpc
from tokendance.gateway.v1 import quota_pb2
from tokendance_cli.catalogue_file.entries import Entry
from tokendance_cli.catalogue_file.people_entries import DAY_S
from tokendance_cli.catalogue_file.plan import Action, Change

if TYPE_CHECKING:
    from tokendance import Client

KINDS = ("organization", "team", "member", "policy")
"""The kinds of entry that are sent from here."""

_PERIODS = {
    "reveal_days": "reveal_period",
    "max_rotation_days": "max_rotation_period",
    "max_key_lifetime_days": "max_key_lifetime",
}
"""The fields of a policy that are days in a file, and their paths."""


class Directory:
    """The resource names of what stands in a file, as far as they are known by now."""

    def __init__(self, kept: Iterable[Entry]) -> None:
        self._names = {(one.kind, one.name): one.resource for one in kept if one.resource}

    def add(self, entry: Entry, resource: str) -> None:
        """Learn the resource name of what was made."""
        self._names[entry.kind, entry.name] = resource

    def organization(self, entry: Entry) -> str:
        """Return the organization that an entry is or lies in."""
        return self._names["organization", entry.name.partition(" / ")[0]]

    def of(self, entry: Entry) -> str:
        """Return the resource name of an entry that is there."""
        return self._names[entry.kind, entry.name]

    def teams(self, entry: Entry, names: Iterable[str]) -> list[str]:
        """Return the resource names of teams in the organization of an entry."""
        organization = entry.name.partition(" / ")[0]
        return [self._names["team", f"{organization} / {name}"] for name in names]

    def member(self, entry: Entry, handle: str) -> str:
        """Return the resource name of a member in the organization of an entry; what is unknown goes as it is."""
        organization = entry.name.partition(" / ")[0]
        return self._names.get(("member", f"{organization} / {handle}"), handle)


def send_person(client: Client, change: Change, directory: Directory) -> None:
    """Make one change. Raises GatewayError."""
    stub, entry = client.stubs.organizations, change.entry
    mask = FieldMask(paths=[_PERIODS.get(name, name) for name in change.fields])
    match entry.kind, change.action:
        case "organization", Action.CREATE:
            made = stub.CreateOrganization(rpc.CreateOrganizationRequest(organization=_organization(entry)))
            directory.add(entry, made.organization.name)
        case "organization", _:
            organization = _organization(entry, directory.of(entry))
            stub.UpdateOrganization(rpc.UpdateOrganizationRequest(organization=organization, update_mask=mask))
        case "team", Action.CREATE:
            parent = directory.organization(entry)
            team = stub.CreateTeam(rpc.CreateTeamRequest(parent=parent, team=_team(entry))).team
            directory.add(entry, team.name)
        case "team", Action.UPDATE:
            changed = _team(entry, directory.of(entry))
            stub.UpdateTeam(rpc.UpdateTeamRequest(team=changed, update_mask=mask))
        case "team", _:
            stub.DeleteTeam(rpc.DeleteTeamRequest(name=entry.resource, etag=entry.etag))
        case "member", Action.CREATE:
            parent = directory.organization(entry)
            member = stub.CreateMember(rpc.CreateMemberRequest(parent=parent, member=_member(entry, directory))).member
            directory.add(entry, member.name)
        case "member", Action.UPDATE:
            person = _member(entry, directory, directory.of(entry))
            stub.UpdateMember(rpc.UpdateMemberRequest(member=person, update_mask=mask))
        case "member", _:
            stub.DeleteMember(
                rpc.DeleteMemberRequest(name=entry.resource, etag=entry.etag, reason="Not in the gateway file.")
            )
        case _:
            # An organization has its policy from the beginning, so it is never created and never deleted.
            policy = _policy(entry, directory)
            stub.UpdatePolicy(rpc.UpdatePolicyRequest(policy=policy, update_mask=mask))


def _organization(entry: Entry, name: str = "") -> pb.Organization:
    fields = entry.fields
    return pb.Organization(
        name=name, display_name=entry.name, contact=fields["contact"], labels=fields["labels"], etag=entry.etag
    )


def _team(entry: Entry, name: str = "") -> pb.Team:
    fields = entry.fields
    return pb.Team(
        name=name,
        display_name=entry.name.partition(" / ")[2],
        description=fields["description"],
        labels=fields["labels"],
        etag=entry.etag,
    )


def _member(entry: Entry, directory: Directory, name: str = "") -> pb.Member:
    fields = entry.fields
    return pb.Member(
        name=name,
        email=fields["email"],
        subject=fields["subject"],
        display_name=fields["display_name"],
        roles=[pb.MemberRole.Value(f"MEMBER_ROLE_{role.upper()}") for role in fields["roles"]],
        teams=directory.teams(entry, fields["teams"]),
        etag=entry.etag,
    )


def _policy(entry: Entry, directory: Directory) -> pb.Policy:
    fields = entry.fields
    owner = fields["orphaned_keys_owner"]
    message = pb.Policy(
        name=f"{directory.organization(entry)}/policy",
        self_approval=fields["self_approval"],
        orphaned_keys=pb.OrphanedKeys.Value(f"ORPHANED_KEYS_{(fields['orphaned_keys'] or 'unspecified').upper()}"),
        orphaned_keys_owner=directory.member(entry, owner) if owner else "",
        excluded_route_tags=fields["excluded_route_tags"],
        issuance_rules=[_rule(entry, rule, directory) for rule in fields["issuance_rules"]],
        etag=entry.etag,
    )
    for name, path in _PERIODS.items():
        if fields[name] is not None:
            getattr(message, path).CopyFrom(_days(fields[name]))
    return message


def _rule(entry: Entry, rule: dict[str, Any], directory: Directory) -> pb.IssuanceRule:
    message = pb.IssuanceRule(
        display_name=rule["display_name"],
        teams=directory.teams(entry, rule["teams"]),
        models=rule["models"],
        quota_ceiling=_limits(rule["quota_ceiling"]),
        max_keys_per_member=rule["max_keys_per_member"],
    )
    if rule["max_key_lifetime_days"] is not None:
        message.max_key_lifetime.CopyFrom(_days(rule["max_key_lifetime_days"]))
    return message


def _limits(limits: Sequence[dict[str, Any]]) -> list[quota_pb2.LimitRule]:
    return [
        quota_pb2.LimitRule(
            metric=quota_pb2.LimitMetric.Value(f"LIMIT_METRIC_{one['metric'].upper()}"),
            window=quota_pb2.LimitWindow.Value(f"LIMIT_WINDOW_{(one['window'] or 'unspecified').upper()}"),
            limit=one["limit"],
            model=one["model"],
        )
        for one in limits
    ]


def _days(days: int) -> Duration:
    return Duration(seconds=days * DAY_S)
