"""What lies beside the records of somebody in SQL: counted, and removed with them in one transaction."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import ColumnElement, Table, and_, delete, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from tokendance_server.domain.keys.key import KeyState
from tokendance_server.domain.keys.request import RequestState
from tokendance_server.domain.names import child_name, organization_name
from tokendance_server.domain.people.records import ERASED, Traces
from tokendance_server.stores.sql.audit_tables import audit_personal
from tokendance_server.stores.sql.tables import Text, creates, key_requests, keys, policies, preferences, replays
from tokendance_server.stores.sql.usage_tables import usage_records
from tokendance_server.stores.sql.webhook_tables import webhook_deliveries, webhooks

_NO_FINGERPRINT = bytes(32)


async def traces(connection: AsyncConnection, organization_id: str, member_id: str) -> Traces:
    """Count what is left of a member, or of a whole organization where the member's id is empty."""
    alive = and_(_of(keys, "owner_id", organization_id, member_id), keys.c.state != KeyState.REVOKED.value)
    used = and_(
        _of(usage_records, "member_id", organization_id, member_id),
        func.substr(usage_records.c.member_id, 1, len(ERASED), type_=Text()) != ERASED,
    )
    # One event may have personal data in several of its parts.
    places = select(audit_personal.c.organization_id, audit_personal.c.sequence).where(
        _named(audit_personal.c.subject, organization_id, member_id)
    )
    answers = select(func.count()).select_from(replays).where(_answered(organization_id, member_id))
    events = select(func.count()).select_from(places.distinct().subquery())
    return Traces(
        keys=(await connection.execute(select(func.count()).select_from(keys).where(alive))).scalar_one(),
        usage_records=(
            await connection.execute(select(func.count()).select_from(usage_records).where(used))
        ).scalar_one(),
        audit_events=(await connection.execute(events)).scalar_one(),
        stored_answers=(await connection.execute(answers)).scalar_one(),
    )


async def deny_requests(
    connection: AsyncConnection, organization_id: str, member_id: str, decision: Mapping[str, Any]
) -> None:
    """Deny the requests of a member that are neither denied nor revealed."""
    table = key_requests.c
    open_ones = table.state.in_((RequestState.PENDING.value, RequestState.APPROVED.value))
    values = {**decision, "state": RequestState.DENIED.value, "version": table.version + 1}
    wanted = (_of(key_requests, "requester_id", organization_id, member_id), open_ones)
    await connection.execute(update(key_requests).where(*wanted).values(values))


async def forget(connection: AsyncConnection, organization_id: str, member_id: str) -> None:
    """Remove what lies beside the records; see Tenant.forget."""
    subjects = _named(audit_personal.c.subject, organization_id, member_id)
    await connection.execute(delete(audit_personal).where(subjects))
    await connection.execute(delete(preferences).where(_named(preferences.c.name, organization_id, member_id)))
    await connection.execute(delete(replays).where(_answered(organization_id, member_id)))
    # The fingerprint of a draft tells its address to whoever guesses it; without it, a repeat is a conflict.
    made = and_(creates.c.organization_id == organization_id, creates.c.made_id == member_id)
    if not member_id:
        own = and_(creates.c.organization_id == "", creates.c.made_id == organization_id)
        made = or_(creates.c.organization_id == organization_id, own)
        await connection.execute(delete(policies).where(policies.c.organization_id == organization_id))
        await connection.execute(
            update(keys).where(keys.c.organization_id == organization_id).values(purpose="Erased", labels={})
        )
    if not member_id:
        # Their addresses may name people; nothing is told of an organization that is no more.
        for table in (webhook_deliveries, webhooks):
            await connection.execute(delete(table).where(table.c.organization_id == organization_id))
    await connection.execute(update(creates).where(made).values(fingerprint=_NO_FINGERPRINT))


def _answered(organization_id: str, member_id: str) -> ColumnElement[bool]:
    """Choose the kept answers of calls with the keys of a member, or of the organization."""
    own = select(keys.c.id).where(_of(keys, "owner_id", organization_id, member_id))
    return and_(replays.c.organization_id == organization_id, replays.c.key_id.in_(own))


def _of(table: Table, column: str, organization_id: str, member_id: str) -> ColumnElement[bool]:
    own: ColumnElement[bool] = table.c.organization_id == organization_id
    return and_(own, table.c[column] == member_id) if member_id else own


def _named(column: ColumnElement[str], organization_id: str, member_id: str) -> ColumnElement[bool]:
    """Choose one member's resource name, or that of an organization and all below it."""
    if member_id:
        return column == child_name(organization_id, "members", member_id)
    name = organization_name(organization_id)
    prefix = f"{name}/"
    return or_(column == name, func.substr(column, 1, len(prefix), type_=Text()) == prefix)
