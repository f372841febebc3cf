"""Events and signed heads as lines of JSON: what the sink gets, in the form of an export."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from tokendance.gateway.v1 import access_pb2, audit_service_pb2
from tokendance_server.domain.audit.events import AuditEvent, ChainHead
from tokendance_server.domain.audit.heads import SignedHead
from tokendance_server.domain.names import organization_name, organization_of

PLATFORM_CHAIN = "platform"
"""What names the platform's own chain in a line."""


def event_line(event: AuditEvent) -> str:
    """Return an event as one line, without its end; what is empty is left out, as in an export."""
    parent = f"{chain_name(event.organization_id)}/" if event.organization_id else ""
    shown = event.shown("actor")
    document: dict[str, Any] = {
        "name": f"{parent}auditEvents/{event.id}",
        "time": _moment(event.time),
        "actor": _filled(
            {
                "kind": access_pb2.CallerKind.Name(event.actor_kind) if event.actor_kind else "",
                "name": event.actor,
                "display_name": shown.get("display_name", ""),
                "address": shown.get("address", ""),
                "user_agent": shown.get("user_agent", ""),
            }
        ),
        "action": event.action,
        "resource": event.resource,
        "outcome": audit_service_pb2.AuditOutcome.Name(event.outcome),
        "code": event.code,
        "reason": event.reason,
        "request_id": event.request_id,
        "source": audit_service_pb2.AuditSource.Name(event.source) if event.source else "",
        "before": event.shown("before"),
        "after": event.shown("after"),
        "sequence": event.sequence,
        "digest": event.digest.hex(),
    }
    return _line(_filled(document))


def head_line(signed: SignedHead) -> str:
    """Return a signed head as one line, without its end."""
    return _line(
        {
            "head": {
                "chain": chain_name(signed.organization_id),
                "sequence": signed.head.sequence,
                "digest": signed.head.digest.hex(),
                "time": signed.time.astimezone(UTC).isoformat(timespec="microseconds"),
                "signature": signed.signature.hex(),
                "signing_key_id": signed.signing_key_id,
            }
        }
    )


def read_head(line: str) -> SignedHead | None:
    """Return the head in a line; None for a line of something else. Raises ValueError for a head that makes no sense.

    A line that a killed process left half written is something else.
    """
    try:
        found = json.loads(line)
    except ValueError:
        return None
    said = found.get("head") if isinstance(found, dict) else None
    if not isinstance(said, dict):
        return None
    try:
        time = datetime.fromisoformat(said["time"])
        sequence, chain = said["sequence"], said["chain"]
        if not isinstance(sequence, int) or sequence < 1 or time.tzinfo is None:
            raise ValueError("a head has a place from 1 on and a time with its zone")
        organization_id = "" if chain == PLATFORM_CHAIN else organization_of(chain, "chain")
        head = ChainHead(sequence, bytes.fromhex(said["digest"]))
        return SignedHead(organization_id, head, time, bytes.fromhex(said["signature"]), str(said["signing_key_id"]))
    except (KeyError, TypeError, AttributeError) as exc:
        raise ValueError("a head lacks a field") from exc


def chain_name(organization_id: str) -> str:
    """Return how a chain is named: `organizations/{organization}`, or `platform`."""
    return organization_name(organization_id) if organization_id else PLATFORM_CHAIN


def _filled(document: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in document.items() if value}


def _line(document: dict[str, Any]) -> str:
    # In ASCII: no character that some reader takes for the end of a line.
    return json.dumps(document, separators=(",", ":"))


def _moment(time: datetime) -> str:
    return time.astimezone(UTC).isoformat().replace("+00:00", "Z")
