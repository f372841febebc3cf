"""Usage as its readers get it, each within the caller's scope."""

from __future__ import annotations

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import errors_pb2
from tokendance_server.domain.names import tenant_of
from tokendance_server.domain.principals import Principal
from tokendance_server.domain.scopes import in_scope, is_platform_admin, member_id, reads_all
from tokendance_server.domain.usage.drain import Drain
from tokendance_server.domain.usage.entries import FinishedEntry
from tokendance_server.domain.usage.refusals import TurnedAway
from tokendance_server.domain.usage.store import UsageStore

_MOST_OF_ONE_ID = 20


class UsageReader:
    """Reads requests. What this node has not written down yet is written first, so that it is found."""

    def __init__(self, store: UsageStore, drain: Drain, turned_away: TurnedAway) -> None:
        self._store = store
        self._drain = drain
        self._turned_away = turned_away

    async def request(self, caller: Principal, name: str) -> FinishedEntry:
        """Return the newest request of an id within the caller's scope, by its name or the id alone.

        An API key reads its own requests, a member those of its keys, and who reads all of an organization each of it.
        A platform administrator finds, by the id alone, also what this node turned away lately, whoever it was.
        Raises not_found.
        """
        named = tenant_of(name)
        wanted = name.rpartition("/requests/")[2] if named else name
        own = tenant_of(caller.organization)
        organization_id = named or own
        if not in_scope(caller, organization_id) and not (is_platform_admin(caller) and not organization_id):
            raise _no_such_request()
        await self._drain.flush()
        for entry in await self._store.find(wanted, organization_id, _MOST_OF_ONE_ID):
            if _may_read(caller, entry):
                return entry
        if is_platform_admin(caller) and not organization_id:
            refused = self._turned_away.find(wanted)
            if refused is not None:
                return refused
        raise _no_such_request()


def _may_read(caller: Principal, entry: FinishedEntry) -> bool:
    request = entry.request
    if caller.key_id:
        return request.key_id == caller.key_id and in_scope(caller, request.organization_id)
    if reads_all(caller, request.organization_id):
        return True
    me = member_id(caller)
    return bool(me) and in_scope(caller, request.organization_id) and request.member_id == me


def _no_such_request() -> GatewayError:
    return GatewayError(
        errors_pb2.ERROR_REASON_NOT_FOUND,
        "There is no request of this id among those that you may see; ids are kept as long as their records.",
        param="name",
        origin="caller",
    )
