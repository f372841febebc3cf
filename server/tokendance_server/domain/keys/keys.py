"""API keys: made, read and listed. A secret is shown once, when it is minted, and never kept."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import errors_pb2
from tokendance.ids import new_id
from tokendance_server.domain.audit.events import AUTOMATIC, Origin
from tokendance_server.domain.clock import Clock
from tokendance_server.domain.keys.audited import key_event
from tokendance_server.domain.keys.issuance import BOUND, check_bounds
from tokendance_server.domain.keys.key import (
    Key,
    KeyCursor,
    KeyDraft,
    KeyFilter,
    KeySecret,
    KeyState,
    Rotation,
    is_seen_by,
)
from tokendance_server.domain.keys.rules import (
    NOBODY,
    DraftIds,
    check_draft,
    check_printable,
    fingerprint,
    invalid,
    missing,
)
from tokendance_server.domain.keys.secrets import PepperRing, mint
from tokendance_server.domain.keys.store import GoneTeamError, KeyStore, StoppedMemberError
from tokendance_server.domain.names import (
    ANY_ORGANIZATION,
    child_of,
    key_of,
    organization_of,
)
from tokendance_server.domain.organizations import Organizations
from tokendance_server.domain.page_tokens import PageTokens
from tokendance_server.domain.people.records import Policy
from tokendance_server.domain.principals import Principal
from tokendance_server.domain.scopes import changes_all, in_scope, is_platform_admin, member_id, reads_all

MOST_IN_PAGE = 1000
_PAGE_SIZE = 100


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


class Keys:
    """What is done with keys: made, read, listed. `changed` is called with the id of each key that was made.

    `policy` returns that of an organization's id; without it nothing is bounded.
    """

    def __init__(
        self,
        store: KeyStore,
        organizations: Organizations,
        peppers: PepperRing,
        clock: Clock,
        changed: Callable[[str], None],
        *,
        policy: Callable[[str], Awaitable[Policy]] | None = None,
    ) -> None:
        self._policy = policy
        self._store = store
        self._organizations = organizations
        self._peppers = peppers
        self._clock = clock
        self._changed = changed
        self._tokens = PageTokens(peppers.derive("page tokens"))

    def now(self) -> datetime:
        """Return the time at which the state of a key is judged."""
        return self._clock.now()

    async def create(
        self,
        caller: Principal,
        parent: str,
        draft: KeyDraft,
        request_id: str = "",
        *,
        origin: Origin = AUTOMATIC,
    ) -> tuple[Key, str]:
        """Make a key in `organizations/{organization}`; return it with its secret, which is empty on a repeat.

        Raises invalid_request (`param` such as `key.purpose`), not_found for an organization outside the caller's
        scope or a name that the organization does not have, and idempotency_conflict for a request id that came
        with another draft before.
        """
        organization_id = organization_of(parent, "parent")
        await self._require_organization(caller, organization_id)
        if not changes_all(caller, organization_id):
            raise _no_such_organization()
        check_printable(request_id, "request_id")
        mark = fingerprint(draft)
        # Before anything else of the draft: what was right when the first call came is no reason to fail a repeat.
        if request_id and (made := await self._store.made_by(organization_id, request_id)):
            return _repeated(*made, mark), ""
        now = self._clock.now()
        ids = check_draft(draft, organization_id, now)
        await require_known(self._organizations, organization_id, ids)
        await self.require_bounds(organization_id, draft, now)
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
        event = key_event(caller, origin, "key.create", None, key)
        try:
            kept, kept_mark = await self._store.add(key, request_id, mark, event)
        except (StoppedMemberError, GoneTeamError) as exc:
            raise stopped(exc, ids) from exc
        if kept.id != key.id:
            return _repeated(kept, kept_mark, mark), ""
        self._changed(key.id)
        return kept, secret

    async def get(self, caller: Principal, name: str) -> Key:
        """Return a key by its name or its id alone. Raises not_found, also for what is outside the caller's scope.

        A member who reads not everything sees keys that it owns or rotates, and those of its teams.
        """
        organization_id, key_id = key_of(name, "name")
        key = await self._store.get(key_id)
        if key is None or organization_id not in ("", key.organization_id) or not in_scope(caller, key.organization_id):
            raise no_such_key()
        if not reads_all(caller, key.organization_id):
            teams = await self._teams_of(caller, key.organization_id)
            if not is_seen_by(key, member_id(caller), teams):
                raise no_such_key()
        return key

    async def list(self, caller: Principal, query: KeyQuery) -> tuple[list[Key], str]:
        """Return a page of keys, newest first, and the token of the next page: empty where this was the last.

        Raises invalid_request and, for an organization outside the caller's scope, not_found.
        """
        if not 0 <= query.page_size <= MOST_IN_PAGE:
            raise invalid("page_size", f"must be from 0 to {MOST_IN_PAGE}")
        narrowed = await self._filter(caller, query)
        if not is_platform_admin(caller) and not reads_all(caller, narrowed.organization_id):
            if not member_id(caller):
                return [], ""
            teams = await self._teams_of(caller, narrowed.organization_id)
            narrowed = replace(narrowed, seen_by=member_id(caller), seen_teams=teams)
        binding = _binding(caller, narrowed)
        after = _cursor(self._tokens.open(query.page_token, binding)) if query.page_token else None
        size = query.page_size or _PAGE_SIZE
        keys = await self._store.list(narrowed, after, size + 1)
        if len(keys) <= size:
            return keys, ""
        last = keys[size - 1]
        place = f"{last.create_time.isoformat()} {last.id}"
        return keys[:size], self._tokens.seal(place, binding)

    async def require_bounds(
        self, organization_id: str, draft: KeyDraft, since: datetime, fields: frozenset[str] = BOUND
    ) -> None:
        """Raise invalid_request for a key beyond the policy's bounds, as `check_bounds`."""
        if self._policy is not None and not fields.isdisjoint(BOUND):
            check_bounds(await self._policy(organization_id), draft, since, fields)

    async def _require_organization(self, caller: Principal, organization_id: str) -> None:
        if not in_scope(caller, organization_id) or not await self._organizations.exists(organization_id):
            raise _no_such_organization()

    async def _teams_of(self, caller: Principal, organization_id: str) -> frozenset[str]:
        member = await self._organizations.member(organization_id, member_id(caller))
        return frozenset(member.team_ids) if member is not None and member.works else frozenset()

    async def _filter(self, caller: Principal, query: KeyQuery) -> KeyFilter:
        if query.parent != ANY_ORGANIZATION:
            organization_id = organization_of(query.parent, "parent")
            await self._require_organization(caller, organization_id)
        elif is_platform_admin(caller):
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


def _repeated(key: Key, before: bytes, now: bytes) -> Key:
    if before != now:
        raise GatewayError(
            errors_pb2.ERROR_REASON_IDEMPOTENCY_CONFLICT,
            "This request_id made a different key before; use a new one for another key.",
            param="request_id",
            origin="caller",
        )
    return key


def _no_such_organization() -> GatewayError:
    return GatewayError(
        errors_pb2.ERROR_REASON_NOT_FOUND, "There is no such organization.", param="parent", origin="caller"
    )


def no_such_key() -> GatewayError:
    """Return not_found for a key: also where it is there and the caller must not know."""
    return GatewayError(errors_pb2.ERROR_REASON_NOT_FOUND, "There is no such key.", param="name", origin="caller")


async def require_known(
    organizations: Organizations, organization_id: str, ids: DraftIds, former: DraftIds = NOBODY
) -> None:
    """Raise not_found for a member or team that the organization does not have; what `former` names is not asked."""
    if ids.owner_id != former.owner_id and not await organizations.has_member(organization_id, ids.owner_id):
        raise missing("key.owner", "member")
    if ids.team_id != former.team_id and not await organizations.has_team(organization_id, ids.team_id):
        raise missing("key.team", "team")
    responsible_id = ids.responsible_id
    if responsible_id != former.responsible_id and not await organizations.has_member(organization_id, responsible_id):
        raise missing("key.rotation.responsible", "member")


def stopped(error: StoppedMemberError | GoneTeamError, ids: DraftIds) -> GatewayError:
    """Return not_found for the field that names somebody who was stopped meanwhile, or a team that is gone."""
    if isinstance(error, GoneTeamError):
        return missing("key.team", "team")
    owner = error.member_id == ids.owner_id
    return missing("key.owner" if owner else "key.rotation.responsible", "member")


def _binding(caller: Principal, filter: KeyFilter) -> str:
    narrowed = (filter.organization_id, filter.team_id, filter.owner_id, filter.state, filter.rotation_overdue)
    return json.dumps(["keys", caller.name, *narrowed])


def _cursor(place: str) -> KeyCursor:
    create_time, _, key_id = place.partition(" ")
    return KeyCursor(datetime.fromisoformat(create_time), key_id)
