"""What a leaked key did, as the audit trail and the usage records tell, and what is left to clean up."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import audit_service_pb2 as audit_pb
from tokendance.gateway.v1 import keys_service_pb2 as pb
from tokendance.gateway.v1 import quota_service_pb2 as quota_pb
from tokendance.gateway.v1 import usage_pb2
from tokendance_cli.audit_view import document, row
from tokendance_cli.failures import USAGE, CommandError
from tokendance_cli.key_view import last_part, utc

if TYPE_CHECKING:
    from tokendance import Client

_MOST_EVENTS = 1000
_MOST_RECORDS = 10_000


@dataclass(frozen=True, slots=True)
class Calls:
    """The calls of one model by one kind of client: how many, and the times of the first and the last."""

    model: str
    client: str
    count: int
    first: datetime
    last: datetime


@dataclass(frozen=True, slots=True)
class Trail:
    """What was done to a key and by it since `start`; None where the gateway does not tell.

    `cut` says that there are more calls than were counted.
    """

    start: str
    events: Sequence[audit_pb.AuditEvent] | None
    usage: Sequence[Calls] | None
    cut: bool = False

    def event_rows(self) -> list[list[str]]:
        """Return the cells of the events: time, actor, action, reason."""
        rows = [row(event) for event in self.events or ()]
        return [[time, actor, action, reason] for time, _, actor, _, action, _, _, reason in rows]

    def usage_rows(self) -> list[list[str]]:
        """Return the cells of the calls: model, client, count, first, last."""
        calls = self.usage or ()
        return [[one.model, one.client, str(one.count), _words(one.first), _words(one.last)] for one in calls]

    def document(self) -> dict[str, Any]:
        """Return it as JSON has it; `usage` is null where nothing is known of it."""
        usage = None
        if self.usage is not None:
            usage = [
                {"model": one.model, "client": one.client, "calls": one.count, "first": _words(one.first),
                 "last": _words(one.last)}
                for one in self.usage
            ]  # fmt: skip
        events = None if self.events is None else [document(event) for event in self.events]
        return {"since": self.start, "events": events, "usage": usage}


def start_of(key: pb.Key, since: str) -> datetime:
    """Return from when on to look: as typed, else when the secret was minted. Raises CommandError for no time."""
    if not since:
        return (key.rotate_time if key.HasField("rotate_time") else key.create_time).ToDatetime(UTC)
    try:
        moment = datetime.fromisoformat(since)
    except ValueError as error:
        raise CommandError("--since must be a time in ISO 8601, such as 2027-01-31T12:00:00Z.", exit_code=USAGE) from (
            error
        )
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def trail_of(client: Client, key: str, start: datetime) -> Trail:
    """Ask the gateway what was done to a key and by it; what it does not serve, or not to this caller, is unknown.

    Raises nothing of the gateway's: a new secret is on its way to whoever waits for it.
    """
    organization = "/".join(key.split("/")[:2])
    wanted = audit_pb.ListAuditEventsRequest(parent=organization, page_size=_MOST_EVENTS)
    wanted.filter.resource = key
    wanted.filter.start_time.FromDatetime(start)
    events: Sequence[audit_pb.AuditEvent] | None = None
    with contextlib.suppress(GatewayError):
        events = client.stubs.audit.ListAuditEvents(wanted).audit_events
    asked = quota_pb.ListUsageRecordsRequest(parent=organization, page_size=_MOST_RECORDS)
    asked.filter.keys.append(key)
    asked.start_time.FromDatetime(start)
    try:
        page = client.stubs.quota.ListUsageRecords(asked)
    except GatewayError:
        return Trail(_words(start), events, None)
    return Trail(_words(start), events, calls_of(page.usage_records), cut=bool(page.next_page_token))


def calls_of(records: Sequence[usage_pb2.UsageRecord]) -> list[Calls]:
    """Return the records as sums by model and kind of client, the most calls first."""
    times: dict[tuple[str, str], list[datetime]] = {}
    for one in records:
        kind = f"{one.client_kind} {one.client_version}".strip() or "unknown"
        times.setdefault((one.requested_model, kind), []).append(one.start_time.ToDatetime(UTC))
    found = [Calls(model, kind, len(of_one), min(of_one), max(of_one)) for (model, kind), of_one in times.items()]
    return sorted(found, key=lambda one: (-one.count, one.model, one.client))


def still_to_do(key: pb.Key, *, ended: bool) -> list[str]:
    """Return what people have to do now, sentence by sentence."""
    key_id, owner = last_part(key.name), last_part(key.owner)
    to_do = []
    if not ended:
        to_do.append(
            "Put the new secret where the key is used; until then its calls are refused with key_expired. "
            f"Who rotates it: {key.rotation.responsible}."
        )
    to_do.append(
        "Find where else the old secret is, `tokendance keys scan PATH…`: files, history, images, logs of CI; there "
        "too, take it out, though it works no more."
    )
    to_do.append(
        "Compare the calls above with what the key's owner knows of; those that nobody knows of are somebody else's."
    )
    to_do.append(
        f"If one file held it, it may have held more: look at the other keys of {owner}, "
        f"`tokendance keys list --owner {key.owner}`, and at credentials of other systems beside it."
    )
    if not key.allowed_networks:
        to_do.append(
            f"Let the key be used from its own networks only: `tokendance keys update {key_id} --allow-network CIDR`."
        )
    if not key.allowed_models:
        to_do.append(
            f"Let it call only the models that it needs: `tokendance keys update {key_id} --allow-model NAME`."
        )
    return to_do


def _words(moment: datetime) -> str:
    from google.protobuf.timestamp_pb2 import Timestamp

    stamp = Timestamp()
    stamp.FromDatetime(moment)
    return utc(stamp)
