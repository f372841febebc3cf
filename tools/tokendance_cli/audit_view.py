"""How the commands ask for events of the audit trail, and how they show them."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from google.protobuf.json_format import MessageToDict

from tokendance.gateway.v1 import audit_service_pb2 as pb
from tokendance_cli.failures import USAGE, CommandError
from tokendance_cli.key_request import resource as name_of
from tokendance_cli.output import print_record

if TYPE_CHECKING:
    from tokendance_cli.audit_heads import ChainVerdict


def chain_of(organization: str) -> str:
    """Return the name of a chain: an organization's by name or id, or the platform's."""
    return name_of("organizations", organization) if organization else "platform"


def filter_of(
    actor: str, action: str, resource: str, request: str, *, since: str = "", until: str = ""
) -> pb.AuditFilter:
    """Return a filter as typed. Raises CommandError for what is no time."""
    wanted = pb.AuditFilter(actor=actor, action=action, resource=resource, request_id=request)
    if since:
        wanted.start_time.FromDatetime(_moment(since, "--since"))
    if until:
        wanted.end_time.FromDatetime(_moment(until, "--until"))
    return wanted


def document(event: pb.AuditEvent) -> dict[str, Any]:
    """Return an event as JSON has it: what was before and afterwards as objects, the digest in hexadecimal digits."""
    shown: dict[str, Any] = MessageToDict(event, preserving_proto_field_name=True)
    for name in ("before", "after"):
        text = shown.pop(f"{name}_json", "")
        if text:
            shown[name] = json.loads(text)
    return {**shown, "sequence": event.sequence, "digest": event.digest.hex()}


def line(event: pb.AuditEvent) -> str:
    """Return an event as one line of JSON."""
    return json.dumps(document(event), ensure_ascii=False, separators=(",", ":"))


def row(event: pb.AuditEvent) -> list[str]:
    """Return the cells of an event in a table."""
    chain = event.name.split("/")[1] if event.name.startswith("organizations/") else "platform"
    source = pb.AuditSource.Name(event.source).removeprefix("AUDIT_SOURCE_").lower()
    return [
        event.time.ToDatetime(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        f"{chain}:{event.sequence}",
        event.actor.name,
        f"{source} {event.actor.address}".strip(),
        event.action,
        event.resource,
        event.request_id,
        event.reason,
    ]


def verdict_document(verdict: ChainVerdict) -> dict[str, Any]:
    """Return what a check found as JSON has it."""
    shown: dict[str, Any] = MessageToDict(
        verdict.found, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    if verdict.heads:
        shown |= {"chain": verdict.chain, "kept_heads": verdict.heads, "signatures": verdict.signatures}
    return shown


def print_verdict(verdict: ChainVerdict) -> None:
    """Print what a check found."""
    found = verdict.found
    print_record(
        [
            ("chain", verdict.chain),
            ("verdict", "whole" if found.valid else "BROKEN"),
            ("checked", str(found.checked_count)),
            ("head", f"{found.head.sequence} {found.head.digest.hex()}"),
            ("kept heads", str(verdict.heads or "")),
            ("signatures", verdict.signatures if verdict.heads else ""),
            ("first break", found.first_break.message),
            ("event", found.first_break.event),
        ]
    )


def _moment(text: str, option: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise CommandError(
            f"{option} must be a time in ISO 8601, such as 2027-01-31T12:00:00Z.", exit_code=USAGE
        ) from error
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
