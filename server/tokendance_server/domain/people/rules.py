"""What organizations, teams and members must be like: each broken rule is an error that names the field."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import errors_pb2
from tokendance_server.domain.keys.rules import invalid, is_printable
from tokendance_server.domain.organizations import Organization, OrganizationState
from tokendance_server.domain.page_tokens import PageTokens
from tokendance_server.domain.people.records import Cursor, MemberDraft, OrganizationDraft, TeamDraft
from tokendance_server.domain.people.store import Record

MOST_IN_PAGE = 1000
PAGE_SIZE = 100
_NAME_CHARACTERS = 100
_LABELS, _LABEL_KEY_CHARACTERS, _LABEL_VALUE_CHARACTERS = 32, 63, 255
_TEAMS = 100


def check_organization(draft: OrganizationDraft) -> None:
    """Raise invalid_request for a draft that breaks a rule."""
    _check_text(draft.display_name, "organization.display_name", _NAME_CHARACTERS, required=True)
    _check_text(draft.contact, "organization.contact", 200)
    _check_labels(draft.labels, "organization.labels")


def check_team(draft: TeamDraft) -> None:
    """Raise invalid_request for a draft that breaks a rule."""
    _check_text(draft.display_name, "team.display_name", _NAME_CHARACTERS, required=True)
    _check_text(draft.description, "team.description", 500)
    _check_labels(draft.labels, "team.labels")


def check_member(draft: MemberDraft) -> None:
    """Raise invalid_request for a draft that breaks a rule; whether its teams exist is not asked here."""
    _check_text(draft.subject, "member.subject", 255)
    _check_text(draft.email, "member.email", 320)
    _check_text(draft.display_name, "member.display_name", _NAME_CHARACTERS)
    if not draft.roles:
        raise invalid("member.roles", "is required: at least one role")
    if len(draft.teams) > _TEAMS:
        raise invalid("member.teams", f"must hold at most {_TEAMS} teams")


def check_identified(draft: MemberDraft) -> None:
    """Raise invalid_request for a new member whom nobody could sign in as."""
    if not draft.subject and not draft.email:
        raise invalid("member.subject", "or member.email is required: by one of them the member signs in")


def check_etag(record: Record, etag: str) -> None:
    """Raise version_conflict where an etag is given and the record has another."""
    if etag and etag != etag_of(record):
        raise GatewayError(
            errors_pb2.ERROR_REASON_VERSION_CONFLICT,
            "This was changed since it was read; read it again and decide anew.",
            param="etag",
            origin="caller",
        )


def check_not_erased(organization: Organization, param: str = "name") -> None:
    """Raise failed_precondition for an organization that was erased: nothing comes or changes there any more."""
    if organization.state is OrganizationState.ERASED:
        raise failed("This organization was erased; nothing can be done there any more.", param)


def etag_of(record: Record) -> str:
    """Return the version, as callers see it."""
    return f'"{record.version}"'


def fingerprint(draft: OrganizationDraft | TeamDraft | MemberDraft) -> bytes:
    """Return 32 bytes that differ for drafts that differ in anything."""
    return hashlib.sha256(json.dumps(asdict(draft), sort_keys=True).encode()).digest()


def nothing_here(noun: str, param: str = "name") -> GatewayError:
    """Return not_found: also for what is there and the caller must not know."""
    return GatewayError(errors_pb2.ERROR_REASON_NOT_FOUND, f"There is no such {noun}.", param=param, origin="caller")


def already_there(param: str, sentence: str) -> GatewayError:
    """Return already_exists."""
    return GatewayError(errors_pb2.ERROR_REASON_ALREADY_EXISTS, sentence, param=param, origin="caller")


def failed(sentence: str, param: str = "name") -> GatewayError:
    """Return failed_precondition."""
    return GatewayError(errors_pb2.ERROR_REASON_FAILED_PRECONDITION, sentence, param=param, origin="caller")


def check_repeat(before: bytes, now: bytes) -> None:
    """Raise idempotency_conflict where a request id comes with another draft than before."""
    if before != now:
        raise GatewayError(
            errors_pb2.ERROR_REASON_IDEMPOTENCY_CONFLICT,
            "This request_id created something else before; use a new one.",
            param="request_id",
            origin="caller",
        )


class Paging:
    """Page sizes and tokens of the lists by name."""

    def __init__(self, tokens: PageTokens) -> None:
        self._tokens = tokens

    def start(self, page_size: int, page_token: str, *binding: Any) -> tuple[int, Cursor | None]:
        """Return how many to read, one more than the page holds, and from where. Raises invalid_request."""
        if not 0 <= page_size <= MOST_IN_PAGE:
            raise invalid("page_size", f"must be from 0 to {MOST_IN_PAGE}")
        after = None
        if page_token:
            organization_id, _, child_id = self._tokens.open(page_token, _bound(binding)).partition(" ")
            after = Cursor(organization_id, child_id)
        return (page_size or PAGE_SIZE) + 1, after

    def next_token(self, last: Cursor, *binding: Any) -> str:
        """Return the token of the page behind `last`."""
        return self._tokens.seal(f"{last.organization_id} {last.id}", _bound(binding))


def _bound(binding: tuple[Any, ...]) -> str:
    return json.dumps([sorted(one) if isinstance(one, frozenset) else one for one in binding])


def _check_text(value: str, param: str, most: int, *, required: bool = False) -> None:
    if required and not value.strip():
        raise invalid(param, "is required: what people read")
    if len(value) > most:
        raise invalid(param, f"must have at most {most} characters")
    if not is_printable(value):
        raise invalid(param, "must not hold control characters")


def _check_labels(labels: Mapping[str, str], param: str) -> None:
    if len(labels) > _LABELS:
        raise invalid(param, f"must be at most {_LABELS}")
    for name, value in labels.items():
        _check_text(name, param, _LABEL_KEY_CHARACTERS, required=True)
        _check_text(value, param, _LABEL_VALUE_CHARACTERS)
