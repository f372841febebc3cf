"""The menu: what each kind of person finds in the console, and which entry a page belongs to."""

from __future__ import annotations

from tokendance_facade.console.visit import MANAGERS, MEMBER, ORGANIZATION_ADMIN, PLATFORM, READERS, Visit

Entry = tuple[str, str]
_PLATFORM = (
    ("/console/organizations", "Organizations"),
    ("/console/providers", "Providers"),
    ("/console/models", "Models"),
    ("/console/incidents", "Incidents"),
    ("/console/nodes", "Nodes"),
    ("/console/audit", "Platform audit"),
)
_LOOKUP = ("/console/lookup", "Look up")


def navigation(visit: Visit) -> tuple[list[Entry], str]:
    """Return the entries of the menu as pairs of path and label, and the path of the one that is shown now."""
    entries: list[Entry] = []
    if visit.organization_id:
        entries += _of_organization(visit)
    if visit.is_any(PLATFORM) and not visit.path.get("organization"):
        entries = list(_PLATFORM)
    elif visit.is_any(PLATFORM):
        entries = [("/console/organizations", "Platform"), *entries]
    elif not visit.organization_id and visit.is_any(READERS):
        entries = list(_PLATFORM)
    entries.append(_LOOKUP)
    path = visit.exchange.path
    found = [one for one, _ in entries if path == one or path.startswith(one + "/")]
    return entries, max(found, key=len, default="")


def _of_organization(visit: Visit) -> list[Entry]:
    base = visit.base
    entries = [
        (f"{base}/overview", "Overview"),
        (f"{base}/keys", "Keys"),
        (f"{base}/requests", "Requests"),
        (f"{base}/quota", "Quota"),
        (f"{base}/usage", "Usage"),
        (f"{base}/calls", "Calls"),
    ]
    if visit.is_any(READERS | MANAGERS):
        entries += [(f"{base}/teams", "Teams"), (f"{base}/members", "Members"), (f"{base}/audit", "Audit")]
    elif MEMBER in visit.kinds and ORGANIZATION_ADMIN not in visit.kinds:
        entries.append((f"{base}/teams", "Teams"))
    return entries
