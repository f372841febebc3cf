"""API keys: made, read, listed, and verified. A secret is shown once, when it is minted, and never kept."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from tokendance.credentials import SECRET_LENGTH, check_form
from tokendance.errors import GatewayError
from tokendance.gateway.v1 import access_pb2, errors_pb2
from tokendance.gateway.v1.errors_pb2 import ErrorReason
from tokendance.ids import new_id
from tokendance_server.domain.clock import Clock
from tokendance_server.domain.key import Key, KeyCursor, KeyDraft, KeyFilter, KeySecret, KeyState, Rotation
from tokendance_server.domain.key_cache import SharedReads, TimedCache
from tokendance_server.domain.key_rules import check_draft, fingerprint, invalid, missing
from tokendance_server.domain.names import (
    ANY_ORGANIZATION,
    child_name,
    child_of,
    key_of,
    organization_name,
    organization_of,
)
from tokendance_server.domain.organizations import Organizations, in_scope
from tokendance_server.domain.page_tokens import PageTokens
from tokendance_server.domain.principals import Principal
from tokendance_server.domain.secrets import PepperRing, mint

MOST_IN_PAGE = 1000
_PAGE_SIZE = 100
# Unknown secrets are cheap to make up, so what is remembered of them never takes room from known ones.
_MOST_UNKNOWN = 10_000


class KeyStore(Protocol):
    """Keeps keys. Each method is one transaction."""

    async def add(self, key: Key, request_id: str, fingerprint: bytes) -> tuple[Key, bytes]:
        """Add a key, unless the organization's `request_id` (if not empty) made one before.

        Return the key which that request id made, and the fingerprint it came with: the given ones where it is new.
        """

    async def get(self, key_id: str) -> Key | None:
        """Return a key, or None where there is none."""

    async def find(self, digests: Sequence[bytes]) -> Key | None:
        """Return the key one of whose secrets has one of these digests, or None."""

    async def list(self, filter: KeyFilter, after: KeyCursor | None, limit: int) -> list[Key]:
        """Return at most `limit` keys behind the cursor, from the newest to the oldest."""


@dataclass(frozen=True, slots=True)
class KeyQuery:
    """A list as asked for: names and filters of the caller. `page_size` is 0 to 1,000; 0 means 100."""

    parent: str
    page_size: int = 0
    page_token: str = ""
    team: str = ""
    owner: str = ""
    state: KeyState | None = None
    rotation_overdue: bool = False


@dataclass(slots=True)
class _Verdict:
    """What is known of one secret: who its holder is, until when it works, or why it does not."""

    principal: Principal
    expire_time: datetime | None
    rotated_out: bool
    refusal: ErrorReason.ValueType | None


class Keys:
    """What is done with keys. At most `cache_size` answers are kept, each for at most `cache_s` seconds."""

    def __init__(
        self,
        store: KeyStore,
        organizations: Organizations,
        peppers: PepperRing,
        clock: Clock,
        *,
        cache_size: int = 100_000,
        cache_s: float = 5.0,
    ) -> None:
        self._store = store
        self._organizations = organizations
        self._peppers = peppers
        self._clock = clock
        self._tokens = PageTokens(peppers.derive("page tokens"))
        self._known: TimedCache[_Verdict] = TimedCache(cache_size, cache_s)
        self._unknown: TimedCache[bool] = TimedCache(min(cache_size, _MOST_UNKNOWN), cache_s)
        self._reads: SharedReads[_Verdict | None] = SharedReads()

    def now(self) -> datetime:
        """Return the time at which the state of a key is judged."""
        return self._clock.now()

    async def create(self, caller: Principal, parent: str, draft: KeyDraft, request_id: str = "") -> tuple[Key, str]:
        """Make a key in `organizations/{organization}`; return it with its secret, which is empty on a repeat.

        Raises invalid_request (`param` such as `key.purpose`), not_found for an organization outside the caller's
        scope or a name that the organization does not have, and idempotency_conflict for a request id that came
        with another draft before.
        """
        organization_id = organization_of(parent, "parent")
        await self._require_organization(caller, organization_id)
        now = self._clock.now()
        ids = check_draft(draft, organization_id, now)
        if not await self._organizations.has_member(organization_id, ids.owner_id):
            raise missing("key.owner", "member")
        if not await self._organizations.has_team(organization_id, ids.team_id):
            raise missing("key.team", "team")
        if not await self._organizations.has_member(organization_id, ids.responsible_id):
            raise missing("key.rotation.responsible", "member")
        secret = mint()
        due_time = now + timedelta(seconds=draft.rotation_period_s)
        key = Key(
            organization_id=organization_id,
            id=new_id("key"),
            purpose=draft.purpose,
            owner_id=ids.owner_id,
            team_id=ids.team_id,
            quota=draft.quota,
            rotation=Rotation(draft.rotation_period_s, ids.responsible_id, due_time),
            create_time=now,
            update_time=now,
            secrets=(KeySecret(self._peppers.digest(secret), self._peppers.active_id, now),),
            secret_prefix=secret[:8],
            secret_suffix=secret[-4:],
            expire_time=draft.expire_time,
            allowed_models=draft.allowed_models,
            allowed_networks=draft.allowed_networks,
            labels=dict(draft.labels),
            excluded_route_tags=draft.excluded_route_tags,
            rotate_time=now,
        )
        mark = fingerprint(draft)
        kept, kept_mark = await self._store.add(key, request_id, mark)
        if kept_mark != mark:
            raise GatewayError(
                errors_pb2.ERROR_REASON_IDEMPOTENCY_CONFLICT,
                "This request_id made a different key before; use a new one for another key.",
                param="request_id",
                origin="caller",
            )
        return kept, secret if kept.id == key.id else ""

    async def get(self, caller: Principal, name: str) -> Key:
        """Return a key by its name or its id alone. Raises not_found, also for what is outside the caller's scope."""
        organization_id, key_id = key_of(name, "name")
        key = await self._store.get(key_id)
        if key is None or organization_id not in ("", key.organization_id) or not in_scope(caller, key.organization_id):
            raise GatewayError(
                errors_pb2.ERROR_REASON_NOT_FOUND, "There is no such key.", param="name", origin="caller"
            )
        return key

    async def list(self, caller: Principal, query: KeyQuery) -> tuple[list[Key], str]:
        """Return a page of keys, newest first, and the token of the next page: empty where this was the last.

        Raises invalid_request and, for an organization outside the caller's scope, not_found.
        """
        if not 0 <= query.page_size <= MOST_IN_PAGE:
            raise invalid("page_size", f"must be from 0 to {MOST_IN_PAGE}")
        narrowed = await self._filter(caller, query)
        binding = _binding(caller, narrowed)
        after = _cursor(self._tokens.open(query.page_token, binding)) if query.page_token else None
        size = query.page_size or _PAGE_SIZE
        keys = await self._store.list(narrowed, after, size + 1)
        if len(keys) <= size:
            return keys, ""
        last = keys[size - 1]
        place = f"{last.create_time.isoformat()} {last.id}"
        return keys[:size], self._tokens.seal(place, binding)

    def verify_cached(self, secret: str) -> Principal | None:
        """Return the holder of a secret where the answer is at hand, and None where `verify` must be asked.

        Raises key_expired, key_revoked and key_suspended.
        """
        # The answer is found by digest, so that no secret stays in memory.
        if len(secret) != SECRET_LENGTH or not secret.isascii():
            return None
        verdict = self._known.get(self._peppers.digest(secret), self._clock.monotonic())
        return None if verdict is None else self._admit(verdict)

    async def verify(self, secret: str) -> Principal:
        """Return the holder of a secret that works now.

        Raises invalid_api_key and its like for what is no secret of ours, without asking the store; invalid_api_key
        for an unknown secret; key_expired, key_revoked and key_suspended.
        """
        check_form(secret)
        digest = self._peppers.digest(secret)
        asked = self._clock.monotonic()
        verdict = self._known.get(digest, asked)
        if verdict is None and self._unknown.get(digest, asked) is None:
            verdict = await self._reads.read(digest, lambda: self._look_up(secret, digest))
        if verdict is None:
            raise _unknown_secret()
        return self._admit(verdict)

    async def check(self, secret: str) -> tuple[Key | None, GatewayError | None]:
        """Return the key that a secret belongs to, if any, and why the secret does not work now, if so.

        Asks the store each time.
        """
        try:
            check_form(secret)
        except GatewayError as error:
            return None, error
        key = await self._store.find(self._peppers.digests(secret))
        if key is None:
            return None, _unknown_secret()
        try:
            self._admit(self._verdict(key, self._peppers.digests(secret)))
        except GatewayError as error:
            return key, error
        return key, None

    async def _look_up(self, secret: str, digest: bytes) -> _Verdict | None:
        # Age counts from before the read: what changes while it runs must not live longer than it may.
        asked = self._clock.monotonic()
        digests = self._peppers.digests(secret)
        key = await self._store.find(digests)
        if key is None:
            self._unknown.put(digest, True, asked)
            return None
        verdict = self._verdict(key, digests)
        self._known.put(digest, verdict, asked)
        return verdict

    @staticmethod
    def _verdict(key: Key, digests: Sequence[bytes]) -> _Verdict:
        secret = next(secret for secret in key.secrets if secret.digest in digests)
        ends = [time for time in (key.expire_time, secret.expire_time) if time is not None]
        return _Verdict(
            principal=_principal(key),
            expire_time=min(ends, default=None),
            rotated_out=bool(ends) and secret.expire_time == min(ends),
            refusal=_REFUSALS.get(key.state),
        )

    def _admit(self, verdict: _Verdict) -> Principal:
        if verdict.refusal is not None:
            raise GatewayError(verdict.refusal, _SENTENCES[verdict.refusal], origin="caller")
        if verdict.expire_time is not None and verdict.expire_time <= self._clock.now():
            raise _expired(verdict)
        return verdict.principal

    async def _require_organization(self, caller: Principal, organization_id: str) -> None:
        if not in_scope(caller, organization_id) or not await self._organizations.exists(organization_id):
            raise GatewayError(
                errors_pb2.ERROR_REASON_NOT_FOUND, "There is no such organization.", param="parent", origin="caller"
            )

    async def _filter(self, caller: Principal, query: KeyQuery) -> KeyFilter:
        if query.parent != ANY_ORGANIZATION:
            organization_id = organization_of(query.parent, "parent")
            await self._require_organization(caller, organization_id)
        elif access_pb2.CALLER_KIND_PLATFORM_ADMIN in caller.kinds:
            organization_id = ""
        else:
            organization_id = organization_of(caller.organization, "parent")
        team_organization, team_id = child_of(query.team, "teams", "team") if query.team else ("", "")
        owner_organization, owner_id = child_of(query.owner, "members", "owner") if query.owner else ("", "")
        for param, named in (("team", team_organization), ("owner", owner_organization)):
            if organization_id and named not in ("", organization_id):
                raise invalid(param, "must be of the organization in parent")
        return KeyFilter(
            now=self._clock.now(),
            organization_id=organization_id,
            team_id=team_id,
            owner_id=owner_id,
            state=query.state,
            rotation_overdue=query.rotation_overdue,
        )


_REFUSALS = {
    KeyState.REVOKED: errors_pb2.ERROR_REASON_KEY_REVOKED,
    KeyState.SUSPENDED: errors_pb2.ERROR_REASON_KEY_SUSPENDED,
    # No secret of a pending key was ever shown, so one that fits was not come by honestly.
    KeyState.PENDING: errors_pb2.ERROR_REASON_INVALID_API_KEY,
}
_SENTENCES = {
    errors_pb2.ERROR_REASON_KEY_REVOKED: "This API key was revoked; use its successor, or ask its owner why.",
    errors_pb2.ERROR_REASON_KEY_SUSPENDED: "This API key is suspended; ask an administrator to resume it.",
    errors_pb2.ERROR_REASON_INVALID_API_KEY: "This API key is not known here; check that it is the right one.",
}


def _unknown_secret() -> GatewayError:
    reason = errors_pb2.ERROR_REASON_INVALID_API_KEY
    return GatewayError(reason, _SENTENCES[reason], origin="caller")


def _expired(verdict: _Verdict) -> GatewayError:
    assert verdict.expire_time is not None
    when = verdict.expire_time.isoformat(timespec="seconds").replace("+00:00", "Z")
    what = "This secret was replaced by a rotation and ended" if verdict.rotated_out else "This API key expired"
    return GatewayError(
        errors_pb2.ERROR_REASON_KEY_EXPIRED,
        f"{what} at {when}; ask whoever rotates the key for the new one.",
        metadata={"expire_time": when},
        origin="caller",
    )


def _principal(key: Key) -> Principal:
    return Principal(
        kinds=frozenset({access_pb2.CALLER_KIND_API_KEY}),
        name=key.name,
        organization=organization_name(key.organization_id),
        key_id=key.id,
        owner=child_name(key.organization_id, "members", key.owner_id),
        team=child_name(key.organization_id, "teams", key.team_id),
        allowed_models=frozenset(key.allowed_models),
        allowed_networks=key.allowed_networks,
        labels=key.labels,
    )


def _binding(caller: Principal, filter: KeyFilter) -> str:
    narrowed = (filter.organization_id, filter.team_id, filter.owner_id, filter.state, filter.rotation_overdue)
    return json.dumps(["keys", caller.name, *narrowed])


def _cursor(place: str) -> KeyCursor:
    create_time, _, key_id = place.partition(" ")
    return KeyCursor(datetime.fromisoformat(create_time), key_id)
