"""Organizations: created, read, listed, changed, suspended and resumed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from tokendance.errors import GatewayError
from tokendance.ids import new_id
from tokendance_server.domain.audit.events import AUTOMATIC, Origin
from tokendance_server.domain.clock import Clock
from tokendance_server.domain.keys.rules import check_printable
from tokendance_server.domain.names import organization_name, organization_or_id
from tokendance_server.domain.organizations import Organization, OrganizationState
from tokendance_server.domain.people.audited import people_event
from tokendance_server.domain.people.records import CreateMark, Cursor, OrganizationDraft, OrganizationFilter
from tokendance_server.domain.people.rules import (
    Paging,
    check_etag,
    check_not_erased,
    check_organization,
    check_repeat,
    fingerprint,
    nothing_here,
)
from tokendance_server.domain.people.store import PeopleStore
from tokendance_server.domain.principals import Principal
from tokendance_server.domain.scopes import changes_all, in_scope, is_platform_admin


class OrganizationLife:
    """What is done with organizations. `changed` is called with the name of each that was suspended or resumed.

    Every method raises not_found for what is outside the caller's scope.
    """

    def __init__(self, store: PeopleStore, clock: Clock, paging: Paging, changed: Callable[[str], None]) -> None:
        self._store = store
        self._clock = clock
        self._paging = paging
        self._changed = changed

    async def create(
        self, caller: Principal, draft: OrganizationDraft, request_id: str = "", *, origin: Origin = AUTOMATIC
    ) -> Organization:
        """Make an organization. Raises invalid_request, and idempotency_conflict for another draft of this id."""
        check_organization(draft)
        check_printable(request_id, "request_id")
        mark = fingerprint(draft)
        now = self._clock.now()
        made = Organization(
            id=new_id("org"),
            display_name=draft.display_name,
            create_time=now,
            contact=draft.contact,
            labels=dict(draft.labels),
        )
        async with self._store.tenant("") as platform:
            earlier = await platform.made_by("organization", request_id) if request_id else None
            if earlier is None:
                if request_id:
                    await platform.mark_made("organization", request_id, CreateMark(made.id, mark))
                await platform.put(made, now, people_event(caller, origin, "organization.create", None, made, time=now))
                return made
        check_repeat(earlier.fingerprint, mark)
        return await self.get(caller, organization_name(earlier.made_id))

    async def get(self, caller: Principal, name: str) -> Organization:
        """Return an organization by its name or its id alone."""
        organization_id = organization_or_id(name, "name")
        if not in_scope(caller, organization_id):
            raise no_such_organization()
        async with self._store.tenant(organization_id) as tenant:
            found = await tenant.organization()
        if found is None:
            raise no_such_organization()
        return found

    async def page(
        self,
        caller: Principal,
        *,
        page_size: int = 0,
        page_token: str = "",
        query: str = "",
        state: OrganizationState | None = None,
    ) -> tuple[list[Organization], str]:
        """Return a page by name, and the token of the next one: empty where this was the last."""
        only = ""
        if not is_platform_admin(caller):
            if not caller.organization:
                return [], ""
            only = organization_or_id(caller.organization, "name")
        wanted = OrganizationFilter(only, query.casefold(), state)
        binding = ("organizations", caller.name, wanted.organization_id, wanted.query, wanted.state)
        size, after = self._paging.start(page_size, page_token, *binding)
        found = await self._store.organizations(wanted, after, size)
        if len(found) < size:
            return found, ""
        return found[: size - 1], self._paging.next_token(Cursor(found[size - 2].id), *binding)

    async def update(
        self,
        caller: Principal,
        name: str,
        wanted: OrganizationDraft,
        fields: frozenset[str],
        etag: str = "",
        *,
        origin: Origin = AUTOMATIC,
    ) -> Organization:
        """Take over the named fields of a draft. Raises invalid_request and version_conflict."""

        def change(before: Organization) -> Organization:
            former = OrganizationDraft(before.display_name, before.contact, before.labels)
            draft = replace(former, **{field: getattr(wanted, field) for field in fields})
            check_organization(draft)
            return replace(before, display_name=draft.display_name, contact=draft.contact, labels=dict(draft.labels))

        organization_id = organization_or_id(name, "organization.name")
        if not changes_all(caller, organization_id):
            raise no_such_organization("organization.name")
        now = self._clock.now()
        async with self._store.tenant(organization_id) as tenant:
            before = await tenant.organization()
            if before is None:
                raise no_such_organization("organization.name")
            check_not_erased(before, "organization.name")
            check_etag(before, etag)
            after = change(before)
            if after != before:
                after = replace(after, update_time=now, version=before.version + 1)
                await tenant.put(
                    after, now, people_event(caller, origin, "organization.update", before, after, time=now)
                )
        return after

    async def set_state(
        self, caller: Principal, name: str, state: OrganizationState, *, reason: str = "", origin: Origin = AUTOMATIC
    ) -> Organization:
        """Suspend or resume an organization; one that is so already is returned as it is."""
        organization_id = organization_or_id(name, "name")
        if not is_platform_admin(caller):
            raise no_such_organization()
        check_printable(reason, "reason")
        now = self._clock.now()
        async with self._store.tenant(organization_id) as tenant:
            found = await tenant.organization()
            if found is None:
                raise no_such_organization()
            check_not_erased(found)
            if found.state is not state:
                before = found
                found = replace(found, state=state, update_time=now, version=found.version + 1)
                action = "organization.resume" if state is OrganizationState.ACTIVE else "organization.suspend"
                told = people_event(caller, origin, action, before, found, time=now, reason=reason)
                await tenant.put(found, now, told)
        self._changed(found.name)
        return found


def no_such_organization(param: str = "name") -> GatewayError:
    """Return not_found for an organization."""
    return nothing_here("organization", param)
