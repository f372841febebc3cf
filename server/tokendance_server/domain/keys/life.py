"""What happens to a key after it was made: updated, rotated, suspended, resumed, revoked. Every node learns of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from types import MappingProxyType

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import errors_pb2
from tokendance_server.domain.audit.events import AUTOMATIC, Origin
from tokendance_server.domain.clock import Clock
from tokendance_server.domain.keys.audited import key_event
from tokendance_server.domain.keys.key import Key, KeyDraft, KeySecret, KeyState, Rotation
from tokendance_server.domain.keys.keys import Keys, no_such_key, require_known, stopped
from tokendance_server.domain.keys.rules import DAY_S, DraftIds, check_draft, check_printable, draft_of, invalid
from tokendance_server.domain.keys.secrets import PepperRing, mint
from tokendance_server.domain.keys.store import GoneTeamError, KeyStore, RotationMark, StoppedMemberError
from tokendance_server.domain.names import child_name
from tokendance_server.domain.organizations import Organizations
from tokendance_server.domain.principals import Principal
from tokendance_server.domain.scopes import changes_all

LONGEST_OVERLAP_S = 30 * DAY_S
MOST_SECRETS = 10
"""How many secrets of a key are kept: the ended ones so that their holders learn that there is a successor."""

_ATTEMPTS = 20


@dataclass(frozen=True, slots=True)
class Rotated:
    """A rotated key, its new secret (empty on a repeat), and until when the old one works."""

    key: Key
    secret: str
    old_secret_expire_time: datetime


@dataclass(frozen=True, slots=True)
class _Step:
    """A change of state: which states it leads away from, and where to."""

    done: str
    to: KeyState
    away_from: frozenset[KeyState]


@dataclass(frozen=True, slots=True)
class _Deed:
    """Who does what, from where, and why."""

    caller: Principal
    origin: Origin
    action: str
    reason: str = ""


_REVOKE = _Step("revoked", KeyState.REVOKED, frozenset({KeyState.ACTIVE, KeyState.SUSPENDED, KeyState.PENDING}))
_SUSPEND = _Step("suspended", KeyState.SUSPENDED, frozenset({KeyState.ACTIVE}))
_RESUME = _Step("resumed", KeyState.ACTIVE, frozenset({KeyState.SUSPENDED}))


class KeyLife:
    """Changes keys. `changed` is called with the id of each key that was changed, before the call returns.

    Callers who are no administrators change only keys that they own or are responsible for. Every method raises
    not_found for what is outside the caller's scope.
    """

    def __init__(
        self,
        keys: Keys,
        store: KeyStore,
        organizations: Organizations,
        peppers: PepperRing,
        clock: Clock,
        *,
        changed: Callable[[str], None],
    ) -> None:
        self._keys = keys
        self._store = store
        self._organizations = organizations
        self._peppers = peppers
        self._clock = clock
        self._changed = changed

    async def update(
        self,
        caller: Principal,
        name: str,
        wanted: KeyDraft,
        fields: frozenset[str],
        etag: str = "",
        *,
        origin: Origin = AUTOMATIC,
    ) -> Key:
        """Take over the named fields of a draft into a key, and return it.

        Raises invalid_request and not_found as `Keys.create`, failed_precondition for a revoked key, and
        version_conflict where an etag is given and the key has another.
        """

        async def change(key: Key) -> Key:
            if key.state is KeyState.REVOKED:
                raise _failed_precondition(key.state, "This key is revoked for good; create another one.")
            return await self._updated(key, wanted, fields)

        return await self._apply(_Deed(caller, origin, "key.update"), name, change, etag)

    async def rotate(
        self,
        caller: Principal,
        name: str,
        *,
        overlap_s: int = DAY_S,
        etag: str = "",
        request_id: str = "",
        origin: Origin = AUTOMATIC,
    ) -> Rotated:
        """Mint a new secret; the one before works on for `overlap_s` seconds, 0 to 30 days.

        Raises version_conflict where another change was quicker or the etag is another; failed_precondition for a key
        that has ended or was not revealed, and, without an etag, while the overlap of an earlier rotation runs;
        idempotency_conflict for a request id that came with another rotation before; invalid_request.
        """
        if not 0 <= overlap_s <= LONGEST_OVERLAP_S:
            raise invalid("overlap", "must be from 0 seconds to 30 days")
        check_printable(request_id, "request_id")
        key = await self._get(caller, name)
        fingerprint = hashlib.sha256(json.dumps([key.id, overlap_s, etag]).encode()).digest()
        if request_id and (earlier := await self._store.rotation_of(key.organization_id, request_id)):
            return await self._repeat(caller, name, earlier, fingerprint)
        now = self._clock.now()
        _check_etag(key, etag)
        _check_rotation(key, overlap_s, etag, now)
        secret, old_ends = mint(), now + timedelta(seconds=overlap_s)
        after = self._rotated(key, secret, now, old_ends)
        mark = RotationMark(request_id, key.id, fingerprint, old_ends)
        event = key_event(caller, origin, "key.rotate", key, after)
        if await self._store.replace(key, after, mark if request_id else None, event):
            self._changed(key.id)
            return Rotated(after, secret, old_ends)
        if request_id and (earlier := await self._store.rotation_of(key.organization_id, request_id)):
            return await self._repeat(caller, name, earlier, fingerprint)
        raise _version_conflict()

    async def revoke(self, caller: Principal, name: str, *, reason: str = "", origin: Origin = AUTOMATIC) -> Key:
        """End a key for good. A revoked key is returned as it is."""
        return await self._take(_Deed(caller, origin, "key.revoke", reason), name, _REVOKE)

    async def suspend(self, caller: Principal, name: str, *, reason: str = "", origin: Origin = AUTOMATIC) -> Key:
        """Stop a key until it is resumed. A suspended key is returned as it is. Raises failed_precondition."""
        return await self._take(_Deed(caller, origin, "key.suspend", reason), name, _SUSPEND)

    async def resume(self, caller: Principal, name: str, *, origin: Origin = AUTOMATIC) -> Key:
        """Let a suspended key work again. A key that works is returned as it is.

        Raises failed_precondition, also where its owner is stopped.
        """
        return await self._take(_Deed(caller, origin, "key.resume"), name, _RESUME)

    async def _take(self, deed: _Deed, name: str, step: _Step) -> Key:
        check_printable(deed.reason, "reason")

        async def change(key: Key) -> Key:
            if key.state is step.to:
                return key
            if key.state not in step.away_from:
                raise _failed_precondition(key.state, f"A key that is {key.state} cannot be {step.done}.")
            return replace(key, state=step.to, revoke_time=self._clock.now() if step is _REVOKE else key.revoke_time)

        return await self._apply(deed, name, change)

    async def _apply(self, deed: _Deed, name: str, change: Callable[[Key], Awaitable[Key]], etag: str = "") -> Key:
        """Make a change that may be made anew on top of another's, unless the caller asks for one version."""
        for _ in range(_ATTEMPTS):
            before = await self._get(deed.caller, name)
            _check_etag(before, etag)
            after = await change(before)
            if after == before:
                return before
            after = replace(after, update_time=self._clock.now(), version=before.version + 1)
            event = key_event(deed.caller, deed.origin, deed.action, before, after, reason=deed.reason)
            try:
                done = await self._store.replace(before, after, event=event)
            except (StoppedMemberError, GoneTeamError) as exc:
                if after.state is not before.state:
                    raise _owner_stopped(before.state) from exc
                raise stopped(exc, DraftIds(after.owner_id, after.team_id, after.rotation.responsible_id)) from exc
            if done:
                self._changed(before.id)
                return after
        raise _version_conflict()

    async def _get(self, caller: Principal, name: str) -> Key:
        key = await self._keys.get(caller, name)
        if not changes_all(caller, key.organization_id):
            own = (key.owner_id, key.rotation.responsible_id)
            if caller.name not in [child_name(key.organization_id, "members", member) for member in own]:
                raise no_such_key()
        return key

    async def _updated(self, key: Key, wanted: KeyDraft, fields: frozenset[str]) -> Key:
        former = draft_of(key)
        draft = replace(former, **{field: getattr(wanted, field) for field in fields})
        # An end that has passed is no reason to refuse the change of something else.
        checked = replace(draft, expire_time=None) if draft.expire_time == key.expire_time else draft
        ids = check_draft(checked, key.organization_id, self._clock.now())
        former_ids = DraftIds(key.owner_id, key.team_id, key.rotation.responsible_id)
        await require_known(self._organizations, key.organization_id, ids, former_ids)
        await self._keys.require_bounds(key.organization_id, draft, key.create_time, fields)
        due_time = key.rotation.due_time
        if draft.rotation_period_s != key.rotation.period_s:
            due_time = (key.rotate_time or key.create_time) + timedelta(seconds=draft.rotation_period_s)
        return replace(
            key,
            purpose=draft.purpose,
            owner_id=ids.owner_id,
            team_id=ids.team_id,
            quota=draft.quota,
            rotation=Rotation(draft.rotation_period_s, ids.responsible_id, due_time),
            expire_time=draft.expire_time,
            allowed_models=draft.allowed_models,
            allowed_networks=draft.allowed_networks,
            labels=dict(draft.labels),
            excluded_route_tags=draft.excluded_route_tags,
        )

    def _rotated(self, key: Key, secret: str, now: datetime, old_ends: datetime) -> Key:
        # A secret that an earlier rotation ends sooner keeps its end.
        old = [replace(one, expire_time=min(one.expire_time or old_ends, old_ends)) for one in key.secrets]
        fresh = KeySecret(self._peppers.digest(secret), self._peppers.active_id, now)
        return replace(
            key,
            secrets=(fresh, *old)[:MOST_SECRETS],
            secret_prefix=secret[:8],
            secret_suffix=secret[-4:],
            rotation=replace(key.rotation, due_time=now + timedelta(seconds=key.rotation.period_s)),
            rotate_time=now,
            update_time=now,
            version=key.version + 1,
        )

    async def _repeat(self, caller: Principal, name: str, earlier: RotationMark, fingerprint: bytes) -> Rotated:
        if earlier.fingerprint != fingerprint:
            raise GatewayError(
                errors_pb2.ERROR_REASON_IDEMPOTENCY_CONFLICT,
                "This request_id came with another rotation before; use a new one.",
                param="request_id",
                origin="caller",
            )
        return Rotated(await self._get(caller, name), "", earlier.old_secret_expire_time)


def _check_etag(key: Key, etag: str) -> None:
    if etag and etag != key.etag:
        raise _version_conflict()


def _check_rotation(key: Key, overlap_s: int, etag: str, now: datetime) -> None:
    state = key.state_at(now)
    if state not in (KeyState.ACTIVE, KeyState.SUSPENDED):
        raise _failed_precondition(state, f"A key that is {state} cannot be rotated.")
    ends = [secret.expire_time for secret in key.secrets if secret.expire_time and secret.expire_time > now]
    if not overlap_s:
        return
    # Two people who rotate at once, one a little later, would otherwise end the first one's new secret.
    if ends and not etag:
        until = max(ends).isoformat(timespec="seconds").replace("+00:00", "Z")
        raise _failed_precondition(
            state,
            f"This key was just rotated, and an old secret works until {until}; "
            "give the key's etag to rotate it once more, or an overlap of 0.",
            {"old_secret_expire_time": until},
        )
    if len(ends) >= MOST_SECRETS - 1:
        raise _failed_precondition(state, "Too many old secrets of this key still work; rotate with an overlap of 0.")


def _failed_precondition(
    state: KeyState, sentence: str, metadata: Mapping[str, str] = MappingProxyType({})
) -> GatewayError:
    return GatewayError(
        errors_pb2.ERROR_REASON_FAILED_PRECONDITION,
        sentence,
        param="name",
        metadata={"state": state.value, **metadata},
        origin="caller",
    )


def _owner_stopped(state: KeyState) -> GatewayError:
    return _failed_precondition(
        state, "The owner of this key is suspended or out; resume the owner, or give the key to somebody else first."
    )


def _version_conflict() -> GatewayError:
    return GatewayError(
        errors_pb2.ERROR_REASON_VERSION_CONFLICT,
        "This key was changed since it was read; read it again and decide anew.",
        param="etag",
        origin="caller",
    )
