"""Organizations, teams and members as rows, to and from."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from sqlalchemy import Row, and_, select

from tokendance_server.domain.keys.key import LimitRule
from tokendance_server.domain.organizations import (
    Member,
    MemberRole,
    MemberState,
    Organization,
    OrganizationState,
    Team,
)
from tokendance_server.domain.people.records import IssuanceRule, KeyFate, Policy, search_text
from tokendance_server.stores.sql.tables import member_teams, members


def organization_row(one: Organization) -> dict[str, Any]:
    """Return the row of an organization."""
    return {
        "id": one.id,
        "display_name": one.display_name,
        "create_time": one.create_time,
        "search": search_text(one),
        "update_time": one.update_time,
        "version": one.version,
        "labels": dict(one.labels),
        "state": one.state.value,
        "contact": one.contact,
    }


def read_organization(row: Row[Any]) -> Organization:
    """Return the organization of a row."""
    return Organization(
        row.id,
        row.display_name,
        row.create_time,
        OrganizationState(row.state),
        row.contact,
        row.labels,
        row.update_time,
        row.version,
    )


def team_row(one: Team) -> dict[str, Any]:
    """Return the row of a team."""
    return {
        "organization_id": one.organization_id,
        "id": one.id,
        "display_name": one.display_name,
        "create_time": one.create_time,
        "search": search_text(one),
        "update_time": one.update_time,
        "version": one.version,
        "labels": dict(one.labels),
        "description": one.description,
    }


def read_team(row: Row[Any]) -> Team:
    """Return the team of a row."""
    return Team(
        row.organization_id,
        row.id,
        row.display_name,
        row.create_time,
        row.description,
        row.labels,
        row.update_time,
        row.version,
    )


def member_row(one: Member) -> dict[str, Any]:
    """Return the row of a member, without its teams."""
    return {
        "organization_id": one.organization_id,
        "id": one.id,
        "display_name": one.display_name,
        "create_time": one.create_time,
        "search": search_text(one),
        "update_time": one.update_time,
        "version": one.version,
        "subject": one.subject,
        "email": one.email,
        "folded_email": one.email.casefold(),
        "roles": ",".join(one.roles),
        "state": one.state.value,
    }


def member_team_rows(one: Member) -> list[dict[str, Any]]:
    """Return the rows of a member's teams."""
    return [
        {"organization_id": one.organization_id, "member_id": one.id, "team_id": team_id} for team_id in one.team_ids
    ]


def member_query(organization_id: str, member_id: str) -> Any:
    """Return the statement that reads a member, with one row for each team, or one without any."""
    joined = and_(member_teams.c.organization_id == members.c.organization_id, member_teams.c.member_id == members.c.id)
    return (
        select(members, member_teams.c.team_id)
        .join_from(members, member_teams, joined, isouter=True)
        .where(members.c.organization_id == organization_id, members.c.id == member_id)
    )


def read_member(row: Row[Any], team_ids: Iterable[str]) -> Member:
    """Return the member of a row and its teams."""
    return Member(
        row.organization_id,
        row.id,
        row.display_name,
        row.create_time,
        row.subject,
        row.email,
        tuple(MemberRole(role) for role in row.roles.split(",") if role),
        tuple(sorted(team_ids)),
        MemberState(row.state),
        row.update_time,
        row.version,
    )


def policy_row(one: Policy) -> dict[str, Any]:
    """Return the row of a policy."""
    document = {
        "self_approval": one.self_approval,
        "reveal_period_s": one.reveal_period_s,
        "orphaned_keys": None if one.orphaned_keys is None else one.orphaned_keys.value,
        "orphaned_keys_owner_id": one.orphaned_keys_owner_id,
        "issuance_rules": [asdict(rule) for rule in one.issuance_rules],
        "max_rotation_period_s": one.max_rotation_period_s,
        "max_key_lifetime_s": one.max_key_lifetime_s,
        "replay_disabled": one.replay_disabled,
        "excluded_route_tags": list(one.excluded_route_tags),
    }
    return {
        "organization_id": one.organization_id,
        "document": document,
        "update_time": one.update_time,
        "version": one.version,
    }


def read_policy(row: Row[Any]) -> Policy:
    """Return the policy of a row."""
    fate = row.document["orphaned_keys"]
    return Policy(
        row.organization_id,
        row.document["self_approval"],
        row.document["reveal_period_s"],
        None if fate is None else KeyFate(fate),
        row.document["orphaned_keys_owner_id"],
        row.update_time,
        row.version,
        # Policies of the version before have none of these.
        tuple(_read_rule(rule) for rule in row.document.get("issuance_rules", ())),
        row.document.get("max_rotation_period_s"),
        row.document.get("max_key_lifetime_s"),
        row.document.get("replay_disabled", False),
        tuple(row.document.get("excluded_route_tags", ())),
    )


def _read_rule(document: dict[str, Any]) -> IssuanceRule:
    return IssuanceRule(
        document["display_name"],
        tuple(document["teams"]),
        tuple(document["models"]),
        tuple(LimitRule(**limit) for limit in document["quota_ceiling"]),
        document["max_key_lifetime_s"],
        document["max_keys_per_member"],
    )
