"""Requests for keys in a dict, beside the keys and the people that they concern."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime

from tokendance_server.domain.audit.events import EventDraft
from tokendance_server.domain.keys.key import Key, KeyCursor, KeyState
from tokendance_server.domain.keys.request import KeyRequest, RequestFilter, RequestState
from tokendance_server.domain.organizations import Member, Team
from tokendance_server.domain.people.records import CreateMark, Policy
from tokendance_server.stores.memory_people import MemoryPeopleStore


class MemoryKeyRequestStore:
    """Satisfies KeyRequestStore. Changes and events go to the feed and the trail of the keys."""

    def __init__(self, people: MemoryPeopleStore) -> None:
        self.people = people
        self.requests = people.requests
        self.creates: dict[tuple[str, str], CreateMark] = {}

    @asynccontextmanager
    async def desk(self, organization_id: str) -> AsyncIterator[MemoryRequestDesk]:
        # Nothing here waits, so that one runs to its end before the next.
        yield MemoryRequestDesk(self, organization_id)

    async def page(self, filter: RequestFilter, after: KeyCursor | None, limit: int) -> list[KeyRequest]:
        found = [one for one in self.requests.values() if filter.matches(one)]
        places = {one.id: KeyCursor(one.create_time, one.id) for one in found}
        if after is not None:
            found = [one for one in found if places[one.id] < after]
        return sorted(found, key=lambda one: places[one.id], reverse=True)[:limit]


class MemoryRequestDesk:
    """Satisfies RequestDesk."""

    def __init__(self, store: MemoryKeyRequestStore, organization_id: str) -> None:
        self._store = store
        self._people = store.people
        self._organization_id = organization_id

    async def policy(self) -> Policy:
        return await self._people.policy(self._organization_id)

    async def member(self, member_id: str) -> Member | None:
        return await self._people.records.get_member(self._organization_id, member_id)

    async def team(self, team_id: str) -> Team | None:
        return await self._people.records.get_team(self._organization_id, team_id)

    async def request(self, request_id: str) -> KeyRequest | None:
        found = self._store.requests.get(request_id)
        return found if found is not None and found.organization_id == self._organization_id else None

    async def key(self, key_id: str) -> Key | None:
        return await self._people.keys.get(key_id)

    async def made_by(self, request_id: str) -> CreateMark | None:
        return self._store.creates.get((self._organization_id, request_id))

    async def undecided(self, requester_id: str) -> int:
        waiting = [one for one in self._store.requests.values() if one.state is RequestState.PENDING]
        return sum((one.organization_id, one.requester_id) == (self._organization_id, requester_id) for one in waiting)

    async def owned_keys(self, owner_id: str, now: datetime) -> int:
        owned = [one for one in self._people.keys.all_keys() if one.owner_id == owner_id]
        return sum(one.state_at(now) in (KeyState.ACTIVE, KeyState.PENDING) for one in owned)

    async def mark_made(self, request_id: str, mark: CreateMark) -> None:
        self._store.creates[self._organization_id, request_id] = mark

    async def put(self, request: KeyRequest) -> None:
        self._store.requests[request.id] = request

    async def put_key(self, key: Key) -> None:
        before = await self._people.keys.get(key.id)
        if before is None:
            await self._people.keys.add(key, "", b"")
        else:
            await self._people.keys.replace(before, key)

    async def record(self, event: EventDraft) -> None:
        self._people.keys.audit.write(event)
