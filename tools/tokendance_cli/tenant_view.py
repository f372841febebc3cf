"""Organizations, teams, members and policies as the commands list and show them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message

from tokendance.gateway.v1 import organization_pb2 as pb
from tokendance_cli.key_view import utc
from tokendance_cli.limits import limit_text
from tokendance_cli.output import Format, print_json, print_record, print_rows

_DAY_S = 86_400

Pairs = list[tuple[str, str]]


def every(ask: Callable[[Any], Any], request: Any, field: str) -> list[Any]:
    """Return what all pages of a list hold."""
    request.page_size = 1000
    found: list[Any] = []
    while True:
        page = ask(request)
        found += getattr(page, field)
        request.page_token = page.next_page_token
        if not page.next_page_token:
            return found


def document(message: Message) -> dict[str, Any]:
    """Return a message as JSON has it."""
    return MessageToDict(message, preserving_proto_field_name=True)


def show(form: Format, message: Message, pairs: Pairs) -> None:
    """Print one thing: the message for programs, or its lines for people."""
    if form is Format.JSON:
        print_json(document(message))
    else:
        print_record(pairs)


def show_rows(form: Format, found: Iterable[Message], columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a list: the messages for programs, or a table for people."""
    if form is Format.JSON:
        print_json([document(one) for one in found])
    else:
        print_rows(columns, rows, empty="There is none.")


def organization_lines(one: pb.Organization) -> Pairs:
    """Return the lines of an organization."""
    return [
        ("organization", one.name),
        ("state", _word(pb.OrganizationState.Name(one.state))),
        ("display name", one.display_name),
        ("contact", one.contact),
        ("labels", _labels(one)),
        *_times(one),
    ]


def organization_row(one: pb.Organization) -> list[str]:
    """Return the row of an organization in a table: name, state, display name, contact."""
    return [one.name, _word(pb.OrganizationState.Name(one.state)), one.display_name, one.contact]


def team_lines(one: pb.Team) -> Pairs:
    """Return the lines of a team."""
    return [
        ("team", one.name),
        ("display name", one.display_name),
        ("description", one.description),
        ("members", str(one.member_count)),
        ("working keys", str(one.key_count)),
        ("labels", _labels(one)),
        *_times(one),
    ]


def team_row(one: pb.Team) -> list[str]:
    """Return the row of a team in a table: name, display name, members, working keys."""
    return [one.name, one.display_name, str(one.member_count), str(one.key_count)]


def member_lines(one: pb.Member) -> Pairs:
    """Return the lines of a member."""
    return [
        ("member", one.name),
        ("state", _word(pb.MemberState.Name(one.state))),
        ("display name", one.display_name),
        ("email", one.email),
        ("subject", one.subject),
        ("roles", _roles(one)),
        ("teams", ", ".join(one.teams)),
        ("managed outside", "yes" if one.externally_managed else ""),
        ("working keys", str(one.key_count)),
        ("signed in last", utc(one.last_sign_in_time) if one.HasField("last_sign_in_time") else ""),
        *_times(one),
    ]


def member_row(one: pb.Member) -> list[str]:
    """Return the row of a member in a table: name, state, roles, who it is, working keys."""
    who = one.display_name or one.email or one.subject
    return [one.name, _word(pb.MemberState.Name(one.state)), _roles(one), who, str(one.key_count)]


def policy_lines(one: pb.Policy) -> Pairs:
    """Return the lines of a policy; what is not set says what holds then."""
    fate = _word(pb.OrphanedKeys.Name(one.orphaned_keys))
    return [
        ("policy", one.name),
        ("self approval", "yes" if one.self_approval else "no"),
        ("reveal within", _days(one, "reveal_period", "7 days")),
        ("longest rotation", _days(one, "max_rotation_period", "3650 days")),
        ("longest lifetime", _days(one, "max_key_lifetime", "any")),
        ("orphaned keys", "suspend" if fate == "unspecified" else fate),
        ("orphaned keys go to", one.orphaned_keys_owner),
        ("answers kept for repeats", "no" if one.replay_disabled else "yes"),
        ("routes never taken", ", ".join(one.excluded_route_tags)),
        *((f"issuance rule {place}", _rule(rule)) for place, rule in enumerate(one.issuance_rules, 1)),
        ("changed", utc(one.update_time) if one.HasField("update_time") else ""),
        ("etag", one.etag),
    ]


def erasure_lines(one: pb.ErasureSummary, done: str) -> Pairs:
    """Return the lines of what an erasure does, or did: `done` tells which."""
    return [
        ("erasure", done),
        ("members", str(one.members)),
        ("keys", str(one.keys)),
        ("usage records", str(one.usage_records)),
        ("audit events", str(one.audit_events)),
        ("stored answers", str(one.stored_answers)),
    ]


def _rule(rule: pb.IssuanceRule) -> str:
    parts = [
        rule.display_name,
        f"teams {', '.join(rule.teams) or 'any'}",
        f"models {', '.join(rule.models) or 'any'}",
        f"at most {'; '.join(map(limit_text, rule.quota_ceiling)) or 'any quota'}",
        f"lifetime {_days(rule, 'max_key_lifetime', 'any')}",
    ]
    if rule.HasField("max_keys_per_member"):
        parts.append(f"{rule.max_keys_per_member} keys each")
    return " | ".join(parts)


def _days(message: Any, field: str, absent: str) -> str:
    if not message.HasField(field):
        return absent
    days, rest = divmod(getattr(message, field).seconds, _DAY_S)
    return f"{days} days" if not rest else f"{days * _DAY_S + rest} seconds"


def _roles(one: pb.Member) -> str:
    return ", ".join(_word(pb.MemberRole.Name(role)) for role in one.roles)


def _labels(one: pb.Organization | pb.Team) -> str:
    return ", ".join(f"{name}={value}" for name, value in sorted(one.labels.items()))


def _times(one: pb.Organization | pb.Team | pb.Member) -> Pairs:
    return [("created", utc(one.create_time)), ("changed", utc(one.update_time)), ("etag", one.etag)]


def _word(name: str) -> str:
    return name.rpartition("_")[2].lower()
