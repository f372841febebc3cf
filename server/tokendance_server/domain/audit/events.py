"""Events of the audit trail: how they are written down, and the digests that chain them.

Personal data is kept beside its event: the event holds only a salted digest of it, so that erasing it leaves the chain
whole.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Literal

from tokendance.gateway.v1 import access_pb2, audit_service_pb2
from tokendance.gateway.v1.access_pb2 import CallerKind
from tokendance.gateway.v1.audit_service_pb2 import AuditOutcome, AuditSource
from tokendance.ids import new_id
from tokendance_server.domain.principals import Principal

PLATFORM = ""
"""Stands for the platform's own chain where an organization's id stands for the organization's."""
NO_DIGEST = bytes(32)
"""What the first event of a chain follows."""

Part = Literal["actor", "before", "after"]

_LONGEST_REASON = 1000
# Of several kinds of one caller, the one that lets it do the most tells best who it was.
_KINDS = (
    access_pb2.CALLER_KIND_PLATFORM_ADMIN,
    access_pb2.CALLER_KIND_ORGANIZATION_ADMIN,
    access_pb2.CALLER_KIND_AUDITOR,
    access_pb2.CALLER_KIND_SERVICE,
    access_pb2.CALLER_KIND_MEMBER,
)


@dataclass(frozen=True, slots=True)
class Origin:
    """Where an action came from: its request, the way in, and the caller's IP address and User-Agent if known."""

    request_id: str = ""
    source: AuditSource.ValueType = audit_service_pb2.AUDIT_SOURCE_UNSPECIFIED
    address: str = ""
    user_agent: str = ""


AUTOMATIC = Origin(source=audit_service_pb2.AUDIT_SOURCE_AUTOMATIC)
"""For what the gateway does of its own accord."""


@dataclass(frozen=True, slots=True)
class PersonalData:
    """Personal data of one event: whose it is (a resource name), and fields that join those of its part."""

    part: Part
    subject: str
    fields: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class EventDraft:
    """An event before it has its place in a chain. `before` and `after` hold neither secrets nor personal data."""

    organization_id: str
    time: datetime
    action: str
    resource: str
    actor_kind: CallerKind.ValueType
    actor: str
    request_id: str
    source: AuditSource.ValueType
    before: Mapping[str, Any] | None = None
    after: Mapping[str, Any] | None = None
    reason: str = ""
    personal: tuple[PersonalData, ...] = ()
    outcome: AuditOutcome.ValueType = audit_service_pb2.AUDIT_OUTCOME_DONE
    code: str = ""
    """Why it was refused, as a stable error code; empty where it was done."""


@dataclass(frozen=True, slots=True)
class KeptPersonalData:
    """Personal data as kept: whose it is, 16 random bytes, and the JSON text of its fields."""

    subject: str
    salt: bytes
    document: str

    @property
    def digest(self) -> str:
        """What the event holds of it, in hexadecimal digits."""
        return hashlib.sha256(self.salt + self.document.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class AuditEvent:
    """One event in its place. `sequence` counts from 1 without a gap; `before` and `after` are JSON texts or empty.

    `previous` and `digest` (32 bytes each) chain it. `personal_digests` names each part that had personal data,
    `personal` what was not erased of it.
    """

    organization_id: str
    sequence: int
    id: str
    time: datetime
    action: str
    resource: str
    outcome: AuditOutcome.ValueType
    code: str
    actor_kind: CallerKind.ValueType
    actor: str
    request_id: str
    source: AuditSource.ValueType
    before: str
    after: str
    reason: str
    personal_digests: Mapping[str, str]
    previous: bytes
    digest: bytes
    personal: Mapping[str, KeptPersonalData] = field(default_factory=dict)

    def expected_digest(self) -> bytes:
        """Return the digest of what the event says now, behind the event that it says it follows."""
        said = [
            self.organization_id,
            self.id,
            self.time.astimezone(UTC).isoformat(timespec="microseconds"),
            self.action,
            self.resource,
            self.outcome,
            self.code,
            self.actor_kind,
            self.actor,
            self.request_id,
            self.source,
            self.before,
            self.after,
            self.reason,
            dict(self.personal_digests),
        ]
        return hashlib.sha256(self.previous + canonical(said).encode()).digest()

    def is_intact(self) -> bool:
        """Tell whether the event and the personal data that is still there are as they were written."""
        return self.expected_digest() == self.digest and all(
            kept.digest == self.personal_digests.get(part) for part, kept in self.personal.items()
        )

    def shown(self, part: Part) -> dict[str, Any]:
        """Return the fields of a part: those of the event, and its personal data where it was not erased."""
        document = {"before": self.before, "after": self.after}.get(part, "")
        fields: dict[str, Any] = json.loads(document) if document else {}
        if part in self.personal:
            fields |= json.loads(self.personal[part].document)
        return fields


@dataclass(frozen=True, slots=True)
class ChainHead:
    """The end of a chain: its last place (0: it is empty) and the digest there."""

    sequence: int = 0
    digest: bytes = NO_DIGEST


def event(
    caller: Principal,
    origin: Origin,
    *,
    organization_id: str,
    time: datetime,
    action: str,
    resource: str,
    before: Mapping[str, Any] | None = None,
    after: Mapping[str, Any] | None = None,
    reason: str = "",
    personal: tuple[PersonalData, ...] = (),
    refused: str = "",
) -> EventDraft:
    """Return the draft of what a caller did, for the chain of an organization, or PLATFORM.

    `action` is noun and verb, such as `key.rotate`. What `personal` names can be erased later; names, addresses and
    the like belong there and nowhere else. `refused` is the code of the error where it was not done.
    """
    seen = {"address": origin.address, "user_agent": origin.user_agent[:256]}
    if any(seen.values()):
        personal = (PersonalData("actor", caller.name, seen), *personal)
    return EventDraft(
        organization_id=organization_id,
        time=time,
        action=action,
        resource=resource,
        actor_kind=next((kind for kind in _KINDS if kind in caller.kinds), access_pb2.CALLER_KIND_UNSPECIFIED),
        actor=caller.name,
        request_id=origin.request_id,
        source=origin.source,
        before=before,
        after=after,
        reason=reason[:_LONGEST_REASON],
        personal=personal,
        outcome=audit_service_pb2.AUDIT_OUTCOME_REFUSED if refused else audit_service_pb2.AUDIT_OUTCOME_DONE,
        code=refused,
    )


def seal(draft: EventDraft, head: ChainHead) -> AuditEvent:
    """Return the event that follows the end of its chain."""
    personal: dict[str, KeptPersonalData] = {
        one.part: KeptPersonalData(one.subject, os.urandom(16), canonical(dict(one.fields))) for one in draft.personal
    }
    unsealed = AuditEvent(
        organization_id=draft.organization_id,
        sequence=head.sequence + 1,
        id=new_id("evt"),
        time=draft.time,
        action=draft.action,
        resource=draft.resource,
        outcome=draft.outcome,
        code=draft.code,
        actor_kind=draft.actor_kind,
        actor=draft.actor,
        request_id=draft.request_id,
        source=draft.source,
        before="" if draft.before is None else canonical(dict(draft.before)),
        after="" if draft.after is None else canonical(dict(draft.after)),
        # One database keeps no NUL, and the digest must hold for what is read back.
        reason=draft.reason.replace("\0", "\N{REPLACEMENT CHARACTER}"),
        personal_digests={part: kept.digest for part, kept in personal.items()},
        previous=head.digest,
        digest=NO_DIGEST,
        personal=personal,
    )
    return replace(unsealed, digest=unsealed.expected_digest())


def canonical(value: Any) -> str:
    """Return the one JSON text of a value, in ASCII; times are written as ISO 8601."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), default=_plain)


def _plain(value: Any) -> str:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    raise TypeError(f"an audit event cannot hold a {type(value).__name__}")
