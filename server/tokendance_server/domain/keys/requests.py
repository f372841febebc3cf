"""Controlled issuance: a member asks for a key, an administrator or the policy decides, the asker reveals it once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from tokendance.ids import new_id
from tokendance_server.domain.audit.events import AUTOMATIC, Origin
from tokendance_server.domain.clock import Clock
from tokendance_server.domain.keys.audited import key_event, request_event
from tokendance_server.domain.keys.issuance import check_bounds, granting_rule
from tokendance_server.domain.keys.key import Key, KeyCursor, KeyDraft, KeySecret, KeyState, Rotation
from tokendance_server.domain.keys.keys import MOST_IN_PAGE
from tokendance_server.domain.keys.request import BY_POLICY, KeyRequest, RequestFilter, RequestState
from tokendance_server.domain.keys.request_rules import (
    check_decision,
    check_requester,
    no_such_organization,
    no_such_request,
    not_waiting,
    only_the_requester,
    own_decision,
    require_there,
    self_id,
    too_many_waiting,
)
from tokendance_server.domain.keys.request_store import KeyRequestStore, RequestDesk
from tokendance_server.domain.keys.rules import (
    DAY_S,
    DraftIds,
    check_draft,
    check_printable,
    check_text,
    fingerprint,
    invalid,
)
from tokendance_server.domain.keys.secrets import PepperRing, mint
from tokendance_server.domain.names import ANY_ORGANIZATION, child_of, organization_of, policy_name
from tokendance_server.domain.page_tokens import PageTokens
from tokendance_server.domain.people.records import CreateMark, Policy
from tokendance_server.domain.people.rules import check_repeat
from tokendance_server.domain.principals import Principal
from tokendance_server.domain.scopes import changes_all, in_scope, is_platform_admin, reads_all

MOST_WAITING = 50
"""How many requests of one member may wait for a decision at a time."""
REVEAL_S = 7 * DAY_S
"""How long a granted key can be revealed where the policy does not say."""

_PAGE_SIZE = 100
_REASON_CHARACTERS = 500


@dataclass(frozen=True, slots=True)
class RequestQuery:
    """A list as asked for. `page_size` is 0 to 1,000; 0 means 100."""

    parent: str
    page_size: int = 0
    page_token: str = ""
    state: RequestState | None = None


@dataclass(frozen=True, slots=True)
class _Grant:
    """A decision in favour: by whom and from where, why, under which policy, and of what."""

    caller: Principal
    origin: Origin
    decided_by: str
    reason: str
    policy: Policy
    draft: KeyDraft
    ids: DraftIds


class KeyRequests:
    """What is done with requests for keys. `changed` is called with the id of each key that was revealed.

    Every method raises not_found for what is outside the caller's scope.
    """

    def __init__(
        self, store: KeyRequestStore, peppers: PepperRing, clock: Clock, *, changed: Callable[[str], None]
    ) -> None:
        self._store = store
        self._peppers = peppers
        self._clock = clock
        self._changed = changed
        self._tokens = PageTokens(peppers.derive("page tokens of key requests"))

    def now(self) -> datetime:
        """Return the time at which the state of a request is judged."""
        return self._clock.now()

    async def request(
        self,
        caller: Principal,
        parent: str,
        draft: KeyDraft,
        request_id: str = "",
        *,
        origin: Origin = AUTOMATIC,
    ) -> KeyRequest:
        """Ask for a key in `organizations/{organization}`; a policy may grant it at once.

        A draft without an owner is for the asker, who asks for keys of its own and of its own teams, unless it is an
        administrator. Raises invalid_request and not_found as `Keys.create`, idempotency_conflict, and
        failed_precondition for who is no member, is stopped, or has too many requests waiting.
        """
        organization_id = organization_of(parent, "parent")
        if not in_scope(caller, organization_id):
            raise no_such_organization()
        check_printable(request_id, "request_id")
        requester_id = self_id(caller, organization_id)
        draft = draft if draft.owner else replace(draft, owner=caller.name)
        now = self._clock.now()
        mark = hashlib.sha256(requester_id.encode() + fingerprint(draft)).digest()
        async with self._store.desk(organization_id) as desk:
            asker = check_requester(await desk.member(requester_id))
            earlier = await desk.made_by(request_id) if request_id else None
            if earlier is not None:
                check_repeat(earlier.fingerprint, mark)
                kept = await desk.request(earlier.made_id)
                assert kept is not None  # requests stay
                return kept
            ids = check_draft(draft, organization_id, now)
            free = changes_all(caller, organization_id)
            if not free and ids.owner_id != requester_id:
                raise invalid("key.owner", "must be who asks; an administrator may grant it to somebody else")
            await require_there(desk, ids, None if free else asker)
            if await desk.undecided(requester_id) >= MOST_WAITING:
                raise too_many_waiting(MOST_WAITING)
            asked = KeyRequest(organization_id, new_id("kreq"), requester_id, draft, now)
            policy, owned = await desk.policy(), await desk.owned_keys(ids.owner_id, now)
            check_bounds(policy, draft, now)
            if request_id:
                await desk.mark_made(request_id, CreateMark(asked.id, mark))
            await desk.put(asked)
            await desk.record(request_event(caller, origin, "key_request.create", None, asked, time=now))
            rule = granting_rule(policy.issuance_rules, draft, ids.team_id, owned, now)
            if rule is None:
                return asked
            automatic = replace(AUTOMATIC, request_id=origin.request_id)
            by_policy = Principal(frozenset(), policy_name(organization_id))
            grant = _Grant(by_policy, automatic, BY_POLICY, rule.display_name, policy, draft, ids)
            return await self._grant(desk, asked, grant)

    async def approve(
        self,
        caller: Principal,
        name: str,
        wanted: KeyDraft | None = None,
        *,
        reason: str = "",
        etag: str = "",
        origin: Origin = AUTOMATIC,
    ) -> KeyRequest:
        """Grant a request, as asked for or as `wanted`: the asker can reveal the key from now on.

        Raises invalid_request and not_found as `Keys.create`, failed_precondition for one that was decided, for the
        caller's own where the policy does not allow it, and for an asker who is stopped; version_conflict.
        """
        organization_id, request_id = child_of(name, "keyRequests", "name")
        if not changes_all(caller, organization_id):
            raise no_such_request()
        if reason:
            check_text(reason, "reason", _REASON_CHARACTERS, "why")
        now = self._clock.now()
        async with self._store.desk(organization_id) as desk:
            asked = await self._waiting(desk, request_id, etag, now)
            policy = await desk.policy()
            if caller.name == asked.requester and not policy.self_approval:
                raise own_decision()
            check_requester(await desk.member(asked.requester_id), self_asked=False)
            draft = wanted or asked.draft
            ids = check_draft(draft, organization_id, now)
            await require_there(desk, ids)
            check_bounds(policy, draft, now)
            grant = _Grant(caller, origin, caller.name, reason, policy, draft, ids)
            return await self._grant(desk, asked, grant)

    async def deny(
        self, caller: Principal, name: str, reason: str, *, etag: str = "", origin: Origin = AUTOMATIC
    ) -> KeyRequest:
        """Refuse a request. Raises invalid_request without a reason, failed_precondition, version_conflict."""
        organization_id, request_id = child_of(name, "keyRequests", "name")
        if not changes_all(caller, organization_id):
            raise no_such_request()
        check_text(reason.strip() and reason, "reason", _REASON_CHARACTERS, "why")
        now = self._clock.now()
        async with self._store.desk(organization_id) as desk:
            asked = await self._waiting(desk, request_id, etag, now)
            denied = replace(
                asked,
                state=RequestState.DENIED,
                decision_reason=reason,
                decided_by=caller.name,
                decide_time=now,
                version=asked.version + 1,
            )
            await desk.put(denied)
            await desk.record(request_event(caller, origin, "key_request.deny", asked, denied, time=now, reason=reason))
            return denied

    async def reveal(self, caller: Principal, name: str, *, origin: Origin = AUTOMATIC) -> tuple[Key, str]:
        """Mint the secret of a granted key and return it with the key: to the asker alone, once, in time.

        Raises failed_precondition for everybody else who sees the request, for a second time, for too late, for a key
        that was revoked meanwhile, and for an asker or owner who is stopped.
        """
        organization_id, request_id = child_of(name, "keyRequests", "name")
        if not in_scope(caller, organization_id):
            raise no_such_request()
        now = self._clock.now()
        async with self._store.desk(organization_id) as desk:
            granted = await desk.request(request_id)
            if granted is None or not (caller.name == granted.requester or reads_all(caller, organization_id)):
                raise no_such_request()
            if caller.name != granted.requester:
                raise only_the_requester()
            check_requester(await desk.member(granted.requester_id))
            if granted.state_at(now) is not RequestState.APPROVED:
                raise not_waiting(granted.state_at(now), "revealed")
            before = await desk.key(granted.key_id)
            if before is None or before.state_at(now) is not KeyState.PENDING:
                raise not_waiting(RequestState.APPROVED, "revealed, because its key has ended")
            if before.owner_id != granted.requester_id:
                check_requester(await desk.member(before.owner_id), self_asked=False)
            secret = mint()
            after = self._minted(before, granted, secret, now)
            revealed = replace(granted, state=RequestState.REVEALED, version=granted.version + 1)
            await desk.put_key(after)
            await desk.put(revealed)
            await desk.record(request_event(caller, origin, "key_request.reveal", granted, revealed, time=now))
            await desk.record(key_event(caller, origin, "key.reveal", before, after))
        self._changed(after.id)
        return after, secret

    async def list(self, caller: Principal, query: RequestQuery) -> tuple[list[KeyRequest], str]:
        """Return a page, newest first, and the token of the next one. Who reads not everything sees its own requests.

        Raises invalid_request.
        """
        if not 0 <= query.page_size <= MOST_IN_PAGE:
            raise invalid("page_size", f"must be from 0 to {MOST_IN_PAGE}")
        organization_id = ""
        if query.parent != ANY_ORGANIZATION:
            organization_id = organization_of(query.parent, "parent")
            if not in_scope(caller, organization_id):
                raise no_such_organization()
        elif not is_platform_admin(caller):
            organization_id = organization_of(caller.organization, "parent")
        wanted = RequestFilter(self._clock.now(), organization_id, state=query.state)
        if not is_platform_admin(caller) and not reads_all(caller, organization_id):
            own = caller.name.removeprefix(f"{caller.organization}/members/")
            if own == caller.name:
                return [], ""
            wanted = replace(wanted, requester_id=own)
        binding = json.dumps(["key requests", caller.name, organization_id, wanted.requester_id, query.state])
        size = query.page_size or _PAGE_SIZE
        found = await self._store.page(wanted, self._cursor(query.page_token, binding), size + 1)
        if len(found) <= size:
            return found, ""
        last = found[size - 1]
        return found[:size], self._tokens.seal(f"{last.create_time.isoformat()} {last.id}", binding)

    def _cursor(self, token: str, binding: str) -> KeyCursor | None:
        if not token:
            return None
        create_time, _, request_id = self._tokens.open(token, binding).partition(" ")
        return KeyCursor(datetime.fromisoformat(create_time), request_id)

    async def _waiting(self, desk: RequestDesk, request_id: str, etag: str, now: datetime) -> KeyRequest:
        """Return a request that nobody decided about."""
        asked = await desk.request(request_id)
        if asked is None:
            raise no_such_request()
        check_decision(asked, etag, now)
        return asked

    async def _grant(self, desk: RequestDesk, asked: KeyRequest, grant: _Grant) -> KeyRequest:
        """Keep a granted request and its key, which has no secret and does not work yet."""
        now = self._clock.now()
        period_s = grant.policy.reveal_period_s
        ends = now + timedelta(seconds=REVEAL_S if period_s is None else period_s)
        granted = replace(
            asked,
            draft=grant.draft,
            state=RequestState.APPROVED,
            key_id=new_id("key"),
            decision_reason=grant.reason,
            decided_by=grant.decided_by,
            decide_time=now,
            reveal_expire_time=ends,
            version=asked.version + 1,
        )
        key = _pending_key(granted, grant, now)
        await desk.put_key(key)
        await desk.put(granted)
        caller, origin = grant.caller, grant.origin
        event = request_event(caller, origin, "key_request.approve", asked, granted, time=now, reason=grant.reason)
        await desk.record(event)
        await desk.record(key_event(caller, origin, "key.create", None, key))
        return granted

    def _minted(self, key: Key, granted: KeyRequest, secret: str, now: datetime) -> Key:
        # Until now it ended with the time to reveal it, unless somebody gave it another end meanwhile.
        waited_until = _pending_end(granted)
        expire_time = granted.draft.expire_time if key.expire_time == waited_until else key.expire_time
        return replace(
            key,
            state=KeyState.ACTIVE,
            secrets=(KeySecret(self._peppers.digest(secret), self._peppers.active_id, now),),
            secret_prefix=secret[:8],
            secret_suffix=secret[-4:],
            expire_time=expire_time,
            rotation=replace(key.rotation, due_time=now + timedelta(seconds=key.rotation.period_s)),
            rotate_time=now,
            update_time=now,
            version=key.version + 1,
        )


def _pending_end(granted: KeyRequest) -> datetime:
    """Return when a granted key that nobody reveals ends."""
    assert granted.reveal_expire_time is not None
    return min(granted.reveal_expire_time, granted.draft.expire_time or granted.reveal_expire_time)


def _pending_key(granted: KeyRequest, grant: _Grant, now: datetime) -> Key:
    draft = grant.draft
    due_time = now + timedelta(seconds=draft.rotation_period_s)
    return Key(
        organization_id=granted.organization_id,
        id=granted.key_id,
        purpose=draft.purpose,
        owner_id=grant.ids.owner_id,
        team_id=grant.ids.team_id,
        quota=draft.quota,
        rotation=Rotation(draft.rotation_period_s, grant.ids.responsible_id, due_time),
        create_time=now,
        update_time=now,
        state=KeyState.PENDING,
        # What is not revealed in time must not wait for ever.
        expire_time=_pending_end(granted),
        allowed_models=draft.allowed_models,
        allowed_networks=draft.allowed_networks,
        labels=dict(draft.labels),
        excluded_route_tags=draft.excluded_route_tags,
    )
