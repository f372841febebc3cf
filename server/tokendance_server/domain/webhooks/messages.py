"""Crossings as messages: to which webhooks one goes, and what it says in ids and numbers only."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from tokendance.ids import new_id
from tokendance_server.domain.names import child_name, subject_of, tenant_of
from tokendance_server.domain.quota.refusals import metric_name, window_name
from tokendance_server.domain.quota.store import Place
from tokendance_server.domain.quota.thresholds import Crossing
from tokendance_server.domain.quota.windows import BUCKET_S, MINUTE, TOTAL, bucket_leaves, window_end
from tokendance_server.domain.webhooks.webhook import Delivery, Webhook, WebhookStore

EVENT = "quota_threshold"

_KEPT = timedelta(days=7)
_WEBHOOKS = 1000


class Places(Protocol):
    """Knows where subjects are."""

    async def place(self, subject: str) -> Place | None:
        """Return of a key its owner and team; None for what is not there."""


async def deliveries_of(crossing: Crossing, store: WebhookStore, places: Places, now: datetime) -> Sequence[Delivery]:
    """Return what a crossing sends, one delivery for each webhook that asks for it. Raises what the stores raise."""
    subject = crossing.row.subject
    organization_id = tenant_of(subject)
    found = [
        one
        for one in await store.list(organization_id, ("", ""), _WEBHOOKS)
        if not one.draft.disabled and crossing.percent in one.draft.percents
    ]
    if any(one.draft.subjects for one in found):
        near = await _subject_and_above(subject, places)
        found = [one for one in found if not one.draft.subjects or near.intersection(one.draft.subjects)]
    return [_delivery(crossing, webhook, now) for webhook in found]


async def _subject_and_above(subject: str, places: Places) -> set[str]:
    organization_id = tenant_of(subject)
    near = {subject, f"organizations/{organization_id}"}
    if subject_of(subject, "subject")[0] == "keys" and (place := await places.place(subject)) is not None:
        near.add(child_name(organization_id, "members", place.owner_id))
        near.update(child_name(organization_id, "teams", team) for team in place.team_ids)
    return near


def _delivery(crossing: Crossing, webhook: Webhook, now: datetime) -> Delivery:
    rule = crossing.row.rule
    # A minute slides: as one window counts the minute of the clock, so that it warns at most once in it.
    window = crossing.window * BUCKET_S // 60 if rule.window == MINUTE else crossing.window
    mark = json.dumps([crossing.row.counter, rule.limit, window, crossing.percent])
    end = _end(crossing)
    return Delivery(
        organization_id=webhook.organization_id,
        webhook_id=webhook.id,
        crossing=hashlib.sha256(mark.encode()).digest(),
        id=new_id("msg"),
        body=json.dumps(_document(crossing, now, end), separators=(",", ":")),
        create_time=now,
        forget_time=None if rule.window == TOTAL else max(end or now, now) + _KEPT,
    )


def _document(crossing: Crossing, now: datetime, end: datetime | None) -> dict[str, Any]:
    row, rule = crossing.row, crossing.row.rule
    return {
        "event": EVENT,
        "time": _text(now),
        "organization": f"organizations/{tenant_of(row.subject)}",
        "subject": row.subject,
        "metric": metric_name(rule.metric),
        "window": window_name(rule.window),
        "limit": rule.limit,
        "spent": crossing.spent,
        "percent": crossing.percent,
        "soft": rule.soft,
        "model": rule.model,
        "reset_time": _text(end) if end else None,
    }


def _end(crossing: Crossing) -> datetime | None:
    window = crossing.row.rule.window
    end = bucket_leaves(crossing.window) if window == MINUTE else window_end(window, crossing.window)
    return None if end is None else datetime.fromtimestamp(end, UTC)


def _text(time: datetime) -> str:
    return time.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
