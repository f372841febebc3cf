"""Limits as administrators set them and callers read them, with what is spent, held and left of each."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import errors_pb2
from tokendance_server.domain.audit.events import AUTOMATIC, EventDraft, Origin, event
from tokendance_server.domain.clock import Clock
from tokendance_server.domain.keys.key import LimitRule
from tokendance_server.domain.keys.rules import check_limit, invalid
from tokendance_server.domain.names import ANY_ORGANIZATION, child_name, organization_of, subject_of, tenant_of
from tokendance_server.domain.page_tokens import PageTokens
from tokendance_server.domain.principals import Principal
from tokendance_server.domain.quota.claims import Standing, row_of
from tokendance_server.domain.quota.limits import Limits
from tokendance_server.domain.quota.refusals import metric_name, window_name
from tokendance_server.domain.quota.reservations import Reservations
from tokendance_server.domain.quota.store import Place, Quota, QuotaFilter, QuotaStore, SubjectKind
from tokendance_server.domain.scopes import changes_all, in_scope, is_platform_admin, member_id, reads_all

MOST_LIMITS = 64
_PAGE_SIZE = 100


@dataclass(frozen=True, slots=True)
class QuotaView:
    """The limits of one subject and how each stands, in the same order."""

    quota: Quota
    standings: Sequence[Standing]


class Quotas:
    """Sets and reads limits. Every method raises not_found for what is outside the caller's scope."""

    def __init__(
        self, store: QuotaStore, limits: Limits, reservations: Reservations, tokens: PageTokens, clock: Clock
    ) -> None:
        self._store = store
        self._limits = limits
        self._reservations = reservations
        self._tokens = tokens
        self._clock = clock

    async def get(self, caller: Principal, subject: str) -> QuotaView:
        """Return the quota of a subject, a resource name or an id; of the API key that calls where it is empty.

        A key sees its own and those above it, a member its own, its keys' and teams', administrators all.
        """
        subject, place = await self._find(caller, subject)
        if not self._may_read(caller, subject, place):
            raise _nothing_here()
        return await self._view(replace(await self._store.get(subject), display_name=place.display_name))

    async def above(self, caller: Principal, view: QuotaView) -> list[QuotaView]:
        """Return the quotas above a subject, the nearest first: of a key those of its owner, team and organization."""
        subject, organization_id = view.quota.subject, tenant_of(view.quota.subject)
        above = []
        kind, _ = subject_of(subject, "subject")
        if kind == SubjectKind.KEY:
            place = await self._store.place(subject)
            assert place is not None  # it was just read
            above = [child_name(organization_id, "members", place.owner_id)]
            above += [child_name(organization_id, "teams", team) for team in sorted(place.team_ids)]
        if kind != SubjectKind.ORGANIZATION:
            above.append(f"organizations/{organization_id}")
        views = []
        for one in above:
            found = await self._store.place(one)
            name = found.display_name if found else ""
            views.append(await self._view(replace(await self._store.get(one), display_name=name)))
        return views

    async def set(
        self,
        caller: Principal,
        subject: str,
        limits: Sequence[LimitRule],
        *,
        etag: str = "",
        reason: str = "",
        validate_only: bool = False,
        origin: Origin = AUTOMATIC,
    ) -> tuple[QuotaView, QuotaView]:
        """Put limits in the place of a subject's; return its quota as it is now, or would be, and as it was.

        Raises invalid_request, and version_conflict where the etag is of another version.
        """
        subject, place = await self._find(caller, subject, "quota.subject")
        if not changes_all(caller, tenant_of(subject)):
            raise _nothing_here("quota.subject")
        _check(limits)
        before = replace(await self._store.get(subject), display_name=place.display_name)
        if etag and etag != before.etag:
            raise _conflict(before)
        after = replace(before, limits=tuple(limits), update_time=self._clock.now(), version=before.version + 1)
        if not validate_only:
            if not await self._store.put(before, after, _event(caller, origin, before, after, reason)):
                raise _conflict(before)
            # Other nodes learn of it from the feed; whoever asked this one may rely on it from now on.
            self._limits.forget(subject)
        return await self._view(after), await self._view(before)

    async def list(
        self,
        caller: Principal,
        parent: str,
        *,
        page_size: int = 0,
        page_token: str = "",
        kind: SubjectKind | None = None,
        used_percent: int = 0,
        unlimited: bool = False,
    ) -> tuple[list[QuotaView], str]:
        """Return a page of quotas by subject, and the token of the next page, or an empty text."""
        organization_id = "" if parent == ANY_ORGANIZATION else organization_of(parent, "parent")
        if organization_id and not in_scope(caller, organization_id):
            raise _nothing_here("parent")
        own = tenant_of(caller.organization)
        if not organization_id and not is_platform_admin(caller):
            organization_id = own
        seen = None
        if not reads_all(caller, organization_id) and not is_platform_admin(caller):
            seen = frozenset({caller.name})
        binding = json.dumps([caller.name, parent, kind, used_percent, unlimited])
        after = self._tokens.open(page_token, binding) if page_token else ""
        wanted = QuotaFilter(organization_id, kind, seen, unlimited)
        size = page_size or _PAGE_SIZE
        views: list[QuotaView] = []
        while len(views) <= size:
            found = await self._store.list(wanted, after, size + 1)
            for quota in found:
                view = await self._view(quota)
                if not used_percent or any(_percent(one) >= used_percent for one in view.standings):
                    views.append(view)
            if len(found) <= size:
                break
            after = found[-1].subject
        token = self._tokens.seal(views[size - 1].quota.subject, binding) if len(views) > size else ""
        return views[:size], token

    async def _view(self, quota: Quota) -> QuotaView:
        rows = [row_of(quota.subject, rule) for rule in quota.limits]
        organization = f"organizations/{tenant_of(quota.subject)}"
        return QuotaView(quota, await self._reservations.standings(organization, rows))

    async def _find(self, caller: Principal, subject: str, param: str = "subject") -> tuple[str, Place]:
        if not subject and caller.key_id:
            subject = caller.name
        kind, name = subject_of(subject, param)
        if "/" not in name:
            name = await self._name_of(caller, kind, name)
        if not name or not in_scope(caller, tenant_of(name)):
            raise _nothing_here(param)
        place = await self._store.place(name)
        if place is None:
            raise _nothing_here(param)
        return name, place

    async def _name_of(self, caller: Principal, kind: str, identity: str) -> str:
        if kind == SubjectKind.ORGANIZATION:
            return f"organizations/{identity}"
        own = tenant_of(caller.organization)
        if own:
            return f"organizations/{own}/{kind}/{identity}"
        return await self._store.name_of(SubjectKind(kind), identity)

    @staticmethod
    def _may_read(caller: Principal, subject: str, place: Place) -> bool:
        organization_id = tenant_of(subject)
        if reads_all(caller, organization_id):
            return True
        if caller.key_id:
            return subject in (caller.name, caller.owner, caller.team, caller.organization)
        me = member_id(caller)
        kind, _ = subject_of(subject, "subject")
        if kind == SubjectKind.KEY:
            return bool(me) and place.owner_id == me
        if kind == SubjectKind.TEAM:
            return bool(me) and me in place.team_ids
        return subject == caller.name or (kind == SubjectKind.ORGANIZATION and bool(me))


def _check(limits: Sequence[LimitRule]) -> None:
    if len(limits) > MOST_LIMITS:
        raise invalid("quota.limits", f"must be at most {MOST_LIMITS}")
    seen = set()
    for index, rule in enumerate(limits):
        check_limit(rule, f"quota.limits[{index}].rule")
        kind = (rule.metric, rule.window, rule.model, rule.soft)
        if kind in seen:
            raise invalid(f"quota.limits[{index}].rule", "repeats another in metric, window, model and soft")
        seen.add(kind)


def _percent(standing: Standing) -> float:
    used = standing.spent + standing.held
    limit = standing.row.rule.limit
    return 100 * used / limit if limit else (1000 if used else 100)


def _event(caller: Principal, origin: Origin, before: Quota, after: Quota, reason: str) -> EventDraft:
    assert after.update_time is not None
    return event(
        caller,
        origin,
        organization_id=tenant_of(after.subject),
        time=after.update_time,
        action="quota.set",
        resource=after.subject,
        before=_document(before),
        after=_document(after),
        reason=reason,
    )


def _document(quota: Quota) -> dict[str, Any]:
    return {
        "limits": [
            {
                "metric": metric_name(rule.metric),
                "window": window_name(rule.window),
                "limit": rule.limit,
                "soft": rule.soft,
                "model": rule.model,
            }
            for rule in quota.limits
        ],
        "version": quota.version,
    }


def _nothing_here(param: str = "subject") -> GatewayError:
    return GatewayError(errors_pb2.ERROR_REASON_NOT_FOUND, "There is no such subject.", param=param, origin="caller")


def _conflict(kept: Quota) -> GatewayError:
    return GatewayError(
        errors_pb2.ERROR_REASON_VERSION_CONFLICT,
        "Somebody else changed these limits since they were read; read them again and repeat the change.",
        param="quota.etag",
        metadata={"etag": kept.etag},
        origin="caller",
    )
