"""What a development node is filled with, so that every page can be seen alive: made through the real RPCs alone."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from tokendance import Client
from tokendance.gateway.v1 import (
    errors_pb2,
    keys_service_pb2,
    organization_pb2,
    organizations_service_pb2,
    quota_pb2,
    quota_service_pb2,
    status_service_pb2,
)
from tokendance_cli.demo_models import declare

Progress = Callable[[int, int, str], None]
"""Is told how many steps are done, of how many, and what is done now."""
Opening = Callable[[str], AbstractContextManager[Client]]
"""Opens a client in a role: `operator`, `service`, or as a member by resource name."""

_ORGANIZATIONS = (
    ("Northwind Research", (("Search ranking", 4), ("Document extraction", 3))),
    ("Harbour Support", (("Answer drafts", 4), ("Call summaries", 2))),
)
_PURPOSES = ("nightly evaluation", "production service", "notebooks", "regression suite")
_PEOPLE = (("Team lead", organization_pb2.MEMBER_ROLE_ADMIN), ("Engineer", organization_pb2.MEMBER_ROLE_MEMBER))
_FAILURES = (
    errors_pb2.ERROR_REASON_PROVIDER_TIMEOUT,
    errors_pb2.ERROR_REASON_PROVIDER_RATE_LIMITED,
    errors_pb2.ERROR_REASON_PROVIDER_UNAVAILABLE,
)
_QUIET_DAYS = (5, 6)
_BUDGET_MICROS = 240_000_000


@dataclass(frozen=True, slots=True)
class DemoKey:
    """A key that is called, and how often a day."""

    name: str
    calls: int


def fill(opening: Opening, *, days: int, model: str, progress: Progress, seed: int = 1) -> int:
    """Make organizations, people, keys, limits, requests, incidents and `days` days of usage; return the calls made.

    Each run adds organizations of its own. Raises GatewayError.
    """
    chance = random.Random(seed)  # noqa: S311 - figures to look at, not secrets
    now = datetime.now(UTC)
    keys: list[DemoKey] = []
    members: list[tuple[str, str, str]] = []
    with opening("operator") as client:
        declare(client, now)
        for place, (name, teams) in enumerate(_ORGANIZATIONS):
            progress(place, len(_ORGANIZATIONS) + 1, f"organization {name}")
            keys += _organization(client, name, teams, members)
        progress(len(_ORGANIZATIONS), len(_ORGANIZATIONS) + 1, "incidents")
        _incidents(client, model, now)
    for member, organization, team in members:
        with opening(member) as client:
            _ask(client, member, organization, team)
    calls = list(_calls(keys, days, now, chance))
    with opening("service") as client:
        for done, (key, start) in enumerate(calls):
            if done % 20 == 0:
                progress(done, len(calls), "calls")
            _call(client, key, model, start, chance)
    progress(len(calls), len(calls), "calls")
    return len(calls)


def _organization(
    client: Client, name: str, teams: tuple[tuple[str, int], ...], members: list[tuple[str, str, str]]
) -> Iterator[DemoKey]:
    stub = client.stubs.organizations
    wanted = organization_pb2.Organization(display_name=name, contact="platform-team@example.com")
    made = stub.CreateOrganization(organizations_service_pb2.CreateOrganizationRequest(organization=wanted))
    parent = made.organization.name
    _limit(client, parent, _BUDGET_MICROS)
    for title, count in teams:
        team = stub.CreateTeam(
            organizations_service_pb2.CreateTeamRequest(parent=parent, team=organization_pb2.Team(display_name=title))
        ).team.name
        _limit(client, team, _BUDGET_MICROS // 3)
        people = [_member(client, parent, team, f"{role} of {title}", kind) for role, kind in _PEOPLE]
        members.append((people[-1], parent, team))
        for place in range(count):
            key = keys_service_pb2.Key(purpose=f"{title}: {_PURPOSES[place]}", owner=people[place % 2], team=team)
            key.quota.inherited_from = team
            key.rotation.responsible = people[0]
            key.rotation.period.FromTimedelta(timedelta(days=90))
            request = keys_service_pb2.CreateKeyRequest(parent=parent, key=key)
            yield DemoKey(client.stubs.keys.CreateKey(request).key.name, 2 + 3 * (count - place))


def _member(client: Client, parent: str, team: str, name: str, role: organization_pb2.MemberRole.ValueType) -> str:
    address = f"{name.lower().replace(' ', '.')}.{parent[-6:]}@example.com"
    member = organization_pb2.Member(display_name=name, email=address, roles=[role], teams=[team])
    request = organizations_service_pb2.CreateMemberRequest(parent=parent, member=member)
    return client.stubs.organizations.CreateMember(request).member.name


def _limit(client: Client, subject: str, micros: int) -> None:
    rule = quota_pb2.LimitRule(
        metric=quota_pb2.LIMIT_METRIC_COST_MICROS, window=quota_pb2.LIMIT_WINDOW_MONTH, limit=micros
    )
    quota = quota_service_pb2.Quota(subject=subject, limits=[quota_service_pb2.QuotaLimit(rule=rule)])
    client.stubs.quota.SetQuota(quota_service_pb2.SetQuotaRequest(quota=quota))


def _incidents(client: Client, model: str, now: datetime) -> None:
    stub = client.stubs.status
    incident = status_service_pb2.Incident(
        title="Slow first tokens",
        state=status_service_pb2.SERVICE_STATE_DEGRADED,
        phase=status_service_pb2.INCIDENT_PHASE_INVESTIGATING,
        models=[model],
    )
    incident.start_time.FromDatetime(now - timedelta(hours=3))
    opened = status_service_pb2.CreateIncidentRequest(incident=incident, message="Answers begin later than usual.")
    made = stub.CreateIncident(opened).incident
    made.phase = status_service_pb2.INCIDENT_PHASE_RESOLVED
    told = status_service_pb2.UpdateIncidentRequest(incident=made, message="A busy route was given less of the calls.")
    told.update_mask.paths.append("phase")
    stub.UpdateIncident(told)
    work = status_service_pb2.Maintenance(title="Database upgrade", description="Calls may take a second longer.")
    work.start_time.FromDatetime(now + timedelta(days=2))
    work.end_time.FromDatetime(now + timedelta(days=2, hours=1))
    stub.CreateMaintenance(status_service_pb2.CreateMaintenanceRequest(maintenance=work))


def _ask(client: Client, member: str, organization: str, team: str) -> None:
    key = keys_service_pb2.Key(purpose="Compare two models for a week", team=team, owner=member)
    key.quota.inherited_from = team
    key.rotation.responsible = member
    key.rotation.period.FromTimedelta(timedelta(days=30))
    client.stubs.keys.RequestKey(keys_service_pb2.RequestKeyRequest(parent=organization, key=key))


def _calls(keys: list[DemoKey], days: int, now: datetime, chance: random.Random) -> Iterator[tuple[str, datetime]]:
    """Yield whom each call is by and when it was: fewer at weekends and at night, more from week to week."""
    for ago in reversed(range(days)):
        day = now - timedelta(days=ago)
        growth = 0.6 + 0.4 * (days - ago) / days
        quiet = 0.3 if day.weekday() in _QUIET_DAYS else 1.0
        for key in keys:
            for _ in range(round(key.calls * growth * quiet * chance.uniform(0.6, 1.4))):
                time = day.replace(hour=0, minute=0) + timedelta(hours=min(max(chance.gauss(13, 3.5), 0), 23.9))
                yield key.name, min(time, now - timedelta(minutes=1))


def _call(client: Client, key: str, model: str, start: datetime, chance: random.Random) -> None:
    given, made = round(chance.lognormvariate(6.5, 0.7)), round(chance.lognormvariate(5.3, 0.8))
    held = quota_service_pb2.ReserveQuotaRequest(key=key, model=model, input_tokens=given, output_tokens=made)
    held.cost_micros = 0
    reservation = client.stubs.quota.ReserveQuota(held).reservation
    settled = quota_service_pb2.SettleQuotaRequest(name=reservation.name)
    if chance.random() < 0.03:
        settled.reason = chance.choice(_FAILURES)
        settled.cost_micros = 0
    else:
        settled.usage.input_tokens, settled.usage.output_tokens = given, made
        settled.cost_micros = (given * 3 + made * 15) * 10
    settled.usage.SetInParent()
    settled.start_time.FromDatetime(start)
    settled.end_time.FromDatetime(start + timedelta(milliseconds=round(chance.lognormvariate(7, 0.6))))
    client.stubs.quota.SettleQuota(settled)
