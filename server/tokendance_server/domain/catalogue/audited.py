"""Providers and models as the audit trail tells of them: what their administrators wrote, and nothing secret."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tokendance_server.domain.audit.events import PLATFORM, EventDraft, Origin, event
from tokendance_server.domain.catalogue.entries import AnyEntry, EntryKind, document_of
from tokendance_server.domain.principals import Principal

_NOUNS = {EntryKind.PROVIDER: "provider", EntryKind.MODEL: "model"}


@dataclass(frozen=True, slots=True)
class Editing:
    """Who changes which kind of entry, and from where; with `validate_only` nothing is changed, and nothing told."""

    caller: Principal
    origin: Origin
    kind: EntryKind
    validate_only: bool = False


def entry_event(by: Editing, verb: str, time: datetime, before: AnyEntry | None, after: AnyEntry | None) -> EventDraft:
    """Return the event of a change of the catalogue, for the platform's chain; one of the two entries may be None."""
    entry = after or before
    assert entry is not None
    return event(
        by.caller,
        by.origin,
        organization_id=PLATFORM,
        time=time,
        action=f"{_NOUNS[by.kind]}.{verb}",
        resource=f"{by.kind}/{entry.name}",
        before=None if before is None else _document(before),
        after=None if after is None else _document(after),
    )


def _document(entry: AnyEntry) -> dict[str, Any]:
    document = document_of(entry.spec)
    if document.pop("sealed_credential", ""):
        document["credential"] = "(sealed)"
    if headers := document.get("extra_headers"):
        # Some upstreams take their credential in a header of their own.
        document["extra_headers"] = dict.fromkeys(headers, "(not told)")
    return {**document, "version": entry.version}
