"""The audit trail: what was done by whom, and whether the chain of it is whole."""

from __future__ import annotations

import json
from typing import Any

from tokendance.gateway.v1 import audit_service_pb2 as pb
from tokendance_facade.console import words
from tokendance_facade.console.pages.names import Names, read_names
from tokendance_facade.console.pages.paging import PAGE_SIZE, filters, first_href, next_href, page_token
from tokendance_facade.console.views import Action, Actions, Cell, Facts, Field, Notice, Table, View
from tokendance_facade.console.visit import Visit

_MOST_TEXT = 400
_MOST_VALUE = 60
_NOTHING: tuple[Any, ...] = (None, "", [], {})


async def of_organization(visit: Visit) -> View:
    """Show the trail of an organization."""
    return await _trail(visit, visit.organization, f"{visit.base}/audit")


async def of_platform(visit: Visit) -> View:
    """Show the trail of the platform."""
    return await _trail(visit, "platform", "/console/audit")


async def verify_organization(visit: Visit) -> View:
    """Verify the chain of an organization."""
    return await _verify(visit, visit.organization, f"{visit.base}/audit")


async def verify_platform(visit: Visit) -> View:
    """Verify the chain of the platform."""
    return await _verify(visit, "platform", "/console/audit")


async def _trail(visit: Visit, parent: str, path: str) -> View:
    query = visit.query
    wanted = pb.AuditFilter(
        action=query.get("action"),
        actor=query.get("actor"),
        resource=query.get("resource"),
        request_id=query.get("request"),
    )
    request = pb.ListAuditEventsRequest(parent=parent, filter=wanted, page_size=PAGE_SIZE, page_token=page_token(visit))
    found = await visit.call(visit.stubs.audit.ListAuditEvents, request)
    names = await read_names(visit) if parent == visit.organization else Names({}, [], [])
    table = Table(
        "",
        ["Action", "When", "Who", "What, and how it changed", "Outcome", "Request"],
        [_row(one, names) for one in found.audit_events],
        "No event matches.",
        "",
        next_href(visit, found.next_page_token),
        first_href(visit),
    )
    fields = [
        Field("action", "Action, such as key.rotate", value=query.get("action")),
        Field("actor", "Who, by resource name", value=query.get("actor")),
        Field("resource", "What, by resource name", value=query.get("resource")),
        Field("request", "Request id", value=query.get("request")),
    ]
    lead = "Every event follows the one before it by a digest, so that none can be changed or taken away unnoticed."
    verify = Actions([Action("Verify the chain", f"{path}/verify")])
    return View("Audit trail", [verify, filters(visit, fields), table], lead)


def changes(before: str, after: str) -> str:
    """Return what two JSON objects differ in, such as `state: active → revoked`; of a new one, what it says."""
    old, new = _object(before), _object(after)
    told = [
        f"{name}: {_short(old[name])} → {_short(new.get(name))}" if name in old else f"{name}: {_short(new[name])}"
        for name in sorted({*old, *new} - {"version"})
        if old.get(name) != new.get(name) and not (name not in old and new[name] in _NOTHING)
    ]
    text = "; ".join(told)
    return text if len(text) <= _MOST_TEXT else text[:_MOST_TEXT] + "…"


def _object(text: str) -> dict[str, Any]:
    found = json.loads(text) if text else {}
    return found if isinstance(found, dict) else {}


def _short(value: Any) -> str:
    if value in _NOTHING:
        return "nothing"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    if text.startswith("organizations/"):
        text = words.id_of(text)
    return text if len(text) <= _MOST_VALUE else text[:_MOST_VALUE] + "…"


def _row(event: pb.AuditEvent, names: Names) -> list[Cell]:
    refused = event.outcome == pb.AUDIT_OUTCOME_REFUSED
    reason = f"Why: {event.reason}" if event.reason else ""
    told = ". ".join(part for part in (changes(event.before_json, event.after_json), reason) if part)
    return [
        Cell(event.action, kind="mono", hint=f"place {event.sequence:,}"),
        words.stamp(event.time),
        Cell(event.actor.display_name or names.of(event.actor.name), hint=event.actor.address),
        Cell("/".join(event.resource.split("/")[-2:]), kind="mono", hint=told),
        Cell("refused", kind="warn", hint=event.code) if refused else Cell("done"),
        Cell(event.request_id or words.NOTHING, kind="mono"),
    ]


async def _verify(visit: Visit, parent: str, path: str) -> View:
    answer = await visit.call(visit.stubs.audit.VerifyAuditChain, pb.VerifyAuditChainRequest(parent=parent))
    if answer.valid:
        told = Notice("The chain is whole: every event is as it was written, and none is missing.", "good")
    else:
        broken = answer.first_break
        told = Notice(f"The chain is broken at place {broken.sequence:,}: {broken.message}", "bad")
    pairs = [
        ("Events looked at", Cell(words.count(answer.checked_count))),
        ("Last place", Cell(words.count(answer.head.sequence))),
        ("Digest there", Cell(answer.head.digest.hex(), kind="mono")),
    ]
    return View("Verify the audit trail", [told, Facts("", pairs)], trail=[(path, "Audit trail")])
