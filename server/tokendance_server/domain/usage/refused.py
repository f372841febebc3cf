"""Requests that the facade refused by itself: a known key's become usage records, the others go to the ring."""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple, Protocol

import msgspec

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import errors_pb2, usage_pb2
from tokendance.gateway.v1.errors_pb2 import ErrorReason
from tokendance_server.domain.names import id_of
from tokendance_server.domain.principals import Principal
from tokendance_server.domain.usage.entries import OpenRequest
from tokendance_server.domain.usage.ledger import Ledger
from tokendance_server.domain.usage.refusals import TurnedAway

_REMEMBERED = 10_000
# Where models are called. What else a key asks for is no usage, whether it is answered or refused.
_CALLS = frozenset(
    {
        errors_pb2.SURFACE_CHAT,
        errors_pb2.SURFACE_COMPLETIONS,
        errors_pb2.SURFACE_RESPONSES,
        errors_pb2.SURFACE_MESSAGES,
        errors_pb2.SURFACE_EMBEDDINGS,
    }
)


class Verifier(Protocol):
    """Tells whose a secret is."""

    async def verify(self, secret: str) -> Principal:
        """Return the holder of a secret that works now; raises GatewayError."""


class Refused(NamedTuple):
    """A refused request: as it came in, without subjects, and what its caller was told."""

    request: OpenRequest
    reason: ErrorReason.ValueType
    message: str
    secret: str


class RefusedRequests:
    """Keeps them. A repeat of one is passed over as long as it is remembered, 10,000 requests."""

    def __init__(self, ledger: Ledger, turned_away: TurnedAway, verifier: Verifier) -> None:
        self._ledger = ledger
        self._turned_away = turned_away
        self._verifier = verifier
        self._seen: OrderedDict[str, None] = OrderedDict()

    async def keep(self, refused: Refused) -> None:
        """Keep one: in the journal where a model was called with a key that works, else in the ring."""
        name = refused.request.request_id
        if name in self._seen:
            return
        self._seen[name] = None
        if len(self._seen) > _REMEMBERED:
            self._seen.popitem(last=False)
        holder = await self._holder(refused.secret) if refused.request.surface in _CALLS else None
        if holder is not None:
            try:
                record = self._ledger.open(_of(refused.request, holder))
            except GatewayError:
                # A full journal refuses paid work; a refusal that finds no place in it is still found by its id.
                holder = None
            else:
                await record.finish(usage_pb2.REQUEST_OUTCOME_REFUSED, reason=refused.reason, message=refused.message)
        if holder is None:
            self._turned_away.note(refused.request, refused.reason, refused.message)

    async def _holder(self, secret: str) -> Principal | None:
        if not secret:
            return None
        try:
            return await self._verifier.verify(secret)
        except GatewayError:
            return None


def _of(request: OpenRequest, holder: Principal) -> OpenRequest:
    """Return the request as one of the holder's."""
    return msgspec.structs.replace(
        request,
        organization_id=id_of(holder.organization),
        key_id=holder.key_id,
        member_id=id_of(holder.owner),
        team_id=id_of(holder.team),
        key_labels=dict(holder.labels),
    )
