"""From the words of `tokendance keys create` to the key that is asked for."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from tokendance.gateway.v1 import keys_service_pb2 as pb
from tokendance.gateway.v1 import organizations_service_pb2 as organizations_pb
from tokendance_cli.failures import USAGE, CommandError
from tokendance_cli.limits import parse_limit

if TYPE_CHECKING:
    from tokendance import Client


def resource(collection: str, name: str, parent: str = "") -> str:
    """Return a resource name as it is given, or made of an id: `parent/collection/id`."""
    if "/" in name:
        return name
    return f"{parent}/{collection}/{name}" if parent else f"{collection}/{name}"


def organization_of(client: Client, named: str, owner: str, team: str) -> str:
    """Return the organization: as named, as owner or team tell, or the only one there is; raises CommandError."""
    if named:
        return resource("organizations", named)
    for name in (owner, team):
        told = re.match(r"organizations/[^/]+(?=/)", name)
        if told:
            return told[0]
    page = client.stubs.organizations.ListOrganizations(organizations_pb.ListOrganizationsRequest(page_size=11))
    found = [one.name for one in page.organizations]
    if len(found) != 1:
        raise CommandError(
            "Which organization? Name it with --organization.",
            *([f"There are {', '.join(found[:10])}."] if found else []),
            exit_code=USAGE,
        )
    return found[0]


def key_wanted(
    organization: str,
    *,
    purpose: str,
    owner: str,
    team: str,
    rotated_by: str,
    rotation_days: int,
    inherit_quota: str,
    limits: Sequence[str],
    models: Sequence[str],
    networks: Sequence[str],
    expires: str,
    labels: Sequence[str],
) -> pb.Key:
    """Return the key; raises CommandError for words that cannot be read. What they mean the gateway checks."""
    key = pb.Key(
        purpose=purpose,
        owner=resource("members", owner, organization) if owner else "",
        team=resource("teams", team, organization),
        allowed_models=models,
        allowed_networks=networks,
        labels=dict(map(label_of, labels)),
    )
    key.rotation.responsible = resource("members", rotated_by, organization)
    key.rotation.period.FromTimedelta(timedelta(days=rotation_days))
    if limits:
        key.quota.limits.rules.extend(parse_limit(limit) for limit in limits)
    else:
        key.quota.inherited_from = quota_source(inherit_quota, key.team, organization)
    if expires:
        key.expire_time.FromDatetime(time_of(expires))
    return key


def quota_source(named: str, team: str, organization: str) -> str:
    """Return whose limits govern a key: `team` and `organization` stand for its own."""
    return {"team": team, "organization": organization}.get(named, named)


def label_of(text: str) -> tuple[str, str]:
    """Return the name and value in NAME=VALUE; raises CommandError."""
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise CommandError(f"{text!r} is no label; write NAME=VALUE.", exit_code=USAGE)
    return name, value


def time_of(text: str) -> datetime:
    """Return a time as 90d from now, a day, or a time in ISO 8601; raises CommandError."""
    days = re.fullmatch(r"(\d{1,5})d", text)
    if days:
        return datetime.now(UTC) + timedelta(days=int(days[1]))
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise CommandError(
            f"{text!r} is no time; write 90d, 2027-01-31 or 2027-01-31T12:00:00Z.", exit_code=USAGE
        ) from error
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
