"""Webhooks and their deliveries in SQL. A delivery is one for its limit, window and threshold over all nodes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

from sqlalchemy import Row, and_, case, delete, or_, select, tuple_, update

from tokendance_server.domain.audit.events import EventDraft
from tokendance_server.domain.organizations import OrganizationState
from tokendance_server.domain.webhooks.webhook import Delivery, DeliveryState, Health, Webhook, WebhookDraft
from tokendance_server.stores.sql.audit import record_event
from tokendance_server.stores.sql.database import ConflictError, Database
from tokendance_server.stores.sql.tables import organizations
from tokendance_server.stores.sql.webhook_tables import webhook_deliveries, webhooks

_DELIVERY = (webhook_deliveries.c.organization_id, webhook_deliveries.c.webhook_id, webhook_deliveries.c.crossing)


class SqlWebhookStore:
    """Satisfies WebhookStore."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def is_open(self, organization_id: str) -> bool:
        query = select(organizations.c.state).where(organizations.c.id == organization_id)
        async with self._database.read() as connection:
            row = (await connection.execute(query)).first()
        return row is not None and row.state != OrganizationState.ERASED.value

    async def get(self, organization_id: str, webhook_id: str) -> Webhook | None:
        query = select(webhooks).where(_same(organization_id, webhook_id))
        async with self._database.read() as connection:
            row = (await connection.execute(query)).first()
        return None if row is None else _webhook(row)

    async def list(self, organization_id: str, after: tuple[str, str], limit: int) -> Sequence[Webhook]:
        organization, identity = after
        table = webhooks.c
        behind = or_(
            table.organization_id > organization, and_(table.organization_id == organization, table.id > identity)
        )
        query = select(webhooks).where(behind).order_by(table.organization_id, table.id).limit(limit)
        if organization_id:
            query = query.where(table.organization_id == organization_id)
        async with self._database.read() as connection:
            return [_webhook(row) for row in (await connection.execute(query)).all()]

    async def made_by(self, organization_id: str, request_id: str) -> Webhook | None:
        wanted = (webhooks.c.organization_id == organization_id, webhooks.c.create_request_id == request_id)
        async with self._database.read() as connection:
            row = (await connection.execute(select(webhooks).where(*wanted))).first()
        return None if row is None else _webhook(row)

    async def add(self, webhook: Webhook, event: EventDraft) -> bool:
        row = {
            "organization_id": webhook.organization_id,
            "id": webhook.id,
            "create_time": webhook.create_time,
            "create_request_id": webhook.create_request_id or None,
            "fingerprint": webhook.fingerprint,
            "last_failure": "",
            "consecutive_failures": 0,
            **_changing(webhook),
        }
        try:
            async with self._database.transaction() as connection:
                await connection.execute(webhooks.insert(), row)
                await record_event(connection, event)
        except ConflictError:
            return False
        return True

    async def replace(self, webhook: Webhook, event: EventDraft | None) -> bool:
        mine = (_same(webhook.organization_id, webhook.id), webhooks.c.version == webhook.version - 1)
        async with self._database.transaction() as connection:
            changed = await connection.execute(update(webhooks).where(*mine), _changing(webhook))
            if not changed.rowcount:
                return False
            if event is not None:
                await record_event(connection, event)
        return True

    async def delete(self, webhook: Webhook, event: EventDraft) -> bool:
        mine = (_same(webhook.organization_id, webhook.id), webhooks.c.version == webhook.version)
        waiting = (
            webhook_deliveries.c.organization_id == webhook.organization_id,
            webhook_deliveries.c.webhook_id == webhook.id,
        )
        async with self._database.transaction() as connection:
            gone = await connection.execute(delete(webhooks).where(*mine))
            if not gone.rowcount:
                return False
            await connection.execute(delete(webhook_deliveries).where(*waiting))
            await record_event(connection, event)
        return True

    async def percents(self) -> frozenset[int]:
        query = select(webhooks.c.percents).where(webhooks.c.disabled.is_(False))
        async with self._database.read() as connection:
            return frozenset(one for row in (await connection.execute(query)).scalars() for one in row)

    async def enqueue(self, deliveries: Sequence[Delivery]) -> int:
        new = 0
        for one in deliveries:
            row = asdict(one) | {"state": DeliveryState.PENDING.value, "next_time": one.create_time}
            try:
                async with self._database.transaction() as connection:
                    same = (_DELIVERY[0] == one.organization_id, _DELIVERY[1] == one.webhook_id)
                    found = select(webhook_deliveries.c.id).where(*same, _DELIVERY[2] == one.crossing)
                    if (await connection.execute(found)).first() is not None:
                        continue
                    await connection.execute(webhook_deliveries.insert(), row)
            except ConflictError:
                # Another node told of the same at the same moment.
                continue
            new += 1
        return new

    async def claim(self, now: datetime, until: datetime, limit: int) -> Sequence[Delivery]:
        table = webhook_deliveries.c
        due = (table.state == DeliveryState.PENDING.value, table.next_time <= now)
        query = select(webhook_deliveries).where(*due).order_by(table.next_time).limit(limit)
        async with self._database.read() as connection:
            found = (await connection.execute(query)).all()
        claimed = []
        for row in found:
            # Of those who saw it, the one who counts the try first has it.
            mine = (table.id == row.id, table.state == DeliveryState.PENDING.value, table.attempts == row.attempts)
            async with self._database.transaction() as connection:
                values = {"attempts": row.attempts + 1, "next_time": until}
                taken = await connection.execute(update(webhook_deliveries).where(*mine).values(values))
            if taken.rowcount:
                claimed.append(_delivery(row, row.attempts + 1))
        return claimed

    async def ended(
        self, delivery: Delivery, state: DeliveryState, next_time: datetime, *, now: datetime, failure: str = ""
    ) -> bool:
        table = webhook_deliveries.c
        mine = (
            table.id == delivery.id,
            table.state == DeliveryState.PENDING.value,
            table.attempts == delivery.attempts,
        )
        health: dict[str, Any] = {}
        if state is DeliveryState.DELIVERED:
            health = {"last_success_time": now, "consecutive_failures": 0}
        elif failure:
            health = {
                "last_failure_time": now,
                "last_failure": failure[:200],
                "consecutive_failures": case(
                    (webhooks.c.consecutive_failures < 1_000_000, webhooks.c.consecutive_failures + 1),
                    else_=webhooks.c.consecutive_failures,
                ),
            }
        async with self._database.transaction() as connection:
            values = {"state": state.value, "next_time": next_time}
            written = await connection.execute(update(webhook_deliveries).where(*mine).values(values))
            if not written.rowcount:
                return False
            if health:
                of_webhook = _same(delivery.organization_id, delivery.webhook_id)
                await connection.execute(update(webhooks).where(of_webhook).values(health))
        return True

    async def prune(self, before: datetime, limit: int) -> int:
        table = webhook_deliveries.c
        old = (table.forget_time < before, table.state != DeliveryState.PENDING.value)
        oldest = select(*_DELIVERY).where(*old).order_by(table.forget_time).limit(limit)
        async with self._database.transaction() as connection:
            return (await connection.execute(delete(webhook_deliveries).where(tuple_(*_DELIVERY).in_(oldest)))).rowcount


def _same(organization_id: str, webhook_id: str) -> Any:
    return and_(webhooks.c.organization_id == organization_id, webhooks.c.id == webhook_id)


def _changing(webhook: Webhook) -> dict[str, Any]:
    draft = webhook.draft
    return {
        "display_name": draft.display_name,
        "url": draft.url,
        "events": list(draft.events),
        "percents": list(draft.percents),
        "subjects": list(draft.subjects),
        "disabled": draft.disabled,
        "sealed_secret": webhook.sealed_secret,
        "old_sealed_secret": webhook.old_sealed_secret,
        "old_secret_expire_time": webhook.old_secret_expire_time,
        "update_time": webhook.update_time,
        "version": webhook.version,
        "rotate_request_id": webhook.rotate_request_id,
    }


def _webhook(row: Row[Any]) -> Webhook:
    return Webhook(
        organization_id=row.organization_id,
        id=row.id,
        draft=WebhookDraft(
            display_name=row.display_name,
            url=row.url,
            events=tuple(row.events),
            percents=tuple(row.percents),
            subjects=tuple(row.subjects),
            disabled=row.disabled,
        ),
        sealed_secret=row.sealed_secret,
        old_sealed_secret=row.old_sealed_secret,
        old_secret_expire_time=row.old_secret_expire_time,
        create_time=row.create_time,
        update_time=row.update_time,
        version=row.version,
        create_request_id=row.create_request_id or "",
        fingerprint=row.fingerprint,
        rotate_request_id=row.rotate_request_id,
        health=Health(row.last_success_time, row.last_failure_time, row.last_failure, row.consecutive_failures),
    )


def _delivery(row: Row[Any], attempts: int) -> Delivery:
    return Delivery(
        organization_id=row.organization_id,
        webhook_id=row.webhook_id,
        crossing=row.crossing,
        id=row.id,
        body=row.body,
        create_time=row.create_time,
        forget_time=row.forget_time,
        attempts=attempts,
    )
