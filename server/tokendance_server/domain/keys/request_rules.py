"""Who may ask, decide and reveal, and the errors that say so."""

from __future__ import annotations

from datetime import datetime

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import errors_pb2
from tokendance_server.domain.keys.request import KeyRequest, RequestState
from tokendance_server.domain.keys.request_store import RequestDesk
from tokendance_server.domain.keys.rules import DraftIds, missing
from tokendance_server.domain.names import organization_name
from tokendance_server.domain.organizations import Member
from tokendance_server.domain.principals import Principal


def self_id(caller: Principal, organization_id: str) -> str:
    """Return the id of the member of an organization that a caller is. Raises failed_precondition for who is none."""
    prefix = f"{organization_name(organization_id)}/members/"
    if not caller.name.startswith(prefix):
        raise _failed("Only members of the organization ask for keys; create one, or ask as a member.", "parent")
    return caller.name.removeprefix(prefix)


def check_requester(member: Member | None, *, self_asked: bool = True) -> Member:
    """Return a member who may have a key. Raises failed_precondition for one who is stopped, or gone."""
    if member is None or not member.works:
        raise _failed(
            "You are suspended or no longer in this organization; ask an administrator."
            if self_asked
            else "The member whom the key is for is suspended or no longer in this organization.",
            "name",
        )
    return member


def check_decision(asked: KeyRequest, etag: str, now: datetime) -> None:
    """Raise version_conflict for another version, failed_precondition for a request that was decided before."""
    if etag and etag != asked.etag:
        raise GatewayError(
            errors_pb2.ERROR_REASON_VERSION_CONFLICT,
            "This request was changed since it was read; read it again and decide anew.",
            param="etag",
            origin="caller",
        )
    if asked.state is not RequestState.PENDING:
        raise not_waiting(asked.state_at(now), "decided about again")


async def require_there(desk: RequestDesk, ids: DraftIds, asker: Member | None = None) -> None:
    """Raise not_found for a member or team that a key cannot belong to; for an asker, also for a team of others."""
    for member_id, param in ((ids.owner_id, "key.owner"), (ids.responsible_id, "key.rotation.responsible")):
        member = await desk.member(member_id)
        if member is None or not member.works:
            raise missing(param, "member")
    if await desk.team(ids.team_id) is None or (asker is not None and ids.team_id not in asker.team_ids):
        raise missing("key.team", "team")


def no_such_request() -> GatewayError:
    """Return not_found for a request: also where it is there and the caller must not know."""
    return GatewayError(errors_pb2.ERROR_REASON_NOT_FOUND, "There is no such request.", param="name", origin="caller")


def no_such_organization() -> GatewayError:
    """Return not_found for an organization."""
    return GatewayError(
        errors_pb2.ERROR_REASON_NOT_FOUND, "There is no such organization.", param="parent", origin="caller"
    )


def not_waiting(state: RequestState, done: str) -> GatewayError:
    """Return failed_precondition for a request in a state in which it cannot be `done`."""
    return _failed(f"This request is {state}, and cannot be {done}.", "name", state=state.value)


def own_decision() -> GatewayError:
    """Return failed_precondition for who would grant its own request."""
    return _failed("This is your own request: another administrator must decide about it.", "name")


def only_the_requester() -> GatewayError:
    """Return failed_precondition for who would reveal somebody else's key."""
    return _failed("Only who asked for this key can reveal it.", "name")


def too_many_waiting(most: int) -> GatewayError:
    """Return failed_precondition for one request too many."""
    return _failed(f"You have {most} requests that nobody has decided about; wait for some of them.", "parent")


def _failed(sentence: str, param: str, **metadata: str) -> GatewayError:
    return GatewayError(
        errors_pb2.ERROR_REASON_FAILED_PRECONDITION, sentence, param=param, metadata=metadata, origin="caller"
    )
