"""Model calls, metered: limits are met before one begins, the ledger is around it, and its charge comes behind it.

One `Metered` goes with each call. Whatever becomes of the call, its record is finished and what it held is freed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import completion_pb2 as pb
from tokendance.gateway.v1 import usage_pb2
from tokendance.gateway.v1.caller_pb2 import CallerAssertion
from tokendance.gateway.v1.errors_pb2 import Surface
from tokendance_server.domain.catalogue.models import Model
from tokendance_server.domain.metered import Metered, MeterParts
from tokendance_server.domain.names import id_of
from tokendance_server.domain.prices.book import PriceBook
from tokendance_server.domain.principals import Principal
from tokendance_server.domain.quota.admission import gravest, room
from tokendance_server.domain.quota.claims import Claim, Refusal, Standing
from tokendance_server.domain.quota.limits import Subjects
from tokendance_server.domain.quota.refusals import refusal_error
from tokendance_server.domain.quota.reservations import Reservations
from tokendance_server.domain.sizes import UNSTATED_ANSWER_TOKENS, dearest_of, sizes_of
from tokendance_server.domain.usage.entries import OpenRequest
from tokendance_server.domain.usage.estimates import Estimates, PromptEstimate
from tokendance_server.domain.usage.ledger import Ledger

MOST_LABELS = 8
"""How many labels of a caller usage can be grouped by."""


class MeteredCaller(Protocol):
    """What the meter needs to know of an RPC."""

    request_id: str
    method: str
    surface: Surface.ValueType
    address: str
    caller: CallerAssertion | None

    @property
    def identity(self) -> Principal:
        """Who calls."""


class Preview(NamedTuple):
    """What would become of a completion: the limits it meets, what it would hold of them, and who would refuse it.

    `worst_cost` is in micro-USD, None for a model without a price.
    """

    prompt: PromptEstimate
    standings: Sequence[Standing]
    claim: Claim
    output_tokens: int
    worst_cost: int | None
    refusal: GatewayError | None


class Meter:
    """Meters the calls of one node."""

    def __init__(self, ledger: Ledger, estimates: Estimates, prices: PriceBook, reservations: Reservations) -> None:
        self.ledger = ledger
        self.estimates = estimates
        self.prices = prices
        self.reservations = reservations
        self._parts = MeterParts(ledger, estimates, prices, reservations)

    async def preview(self, who: Principal, model: Model, request: pb.CompletionRequest, *, streamed: bool) -> Preview:
        """Tell what a completion would hold and which limits it would meet, and hold nothing.

        Raises quota_store_unavailable where nobody can tell.
        """
        sizes = sizes_of(self.estimates, model, request, streamed=streamed)
        tariff = self.prices.tariff(model.id)
        input_cost, output_price = dearest_of(tariff, sizes.prompt.tokens, request.service_tier)
        subjects = Subjects(who.name, who.owner, who.team, who.organization)
        rows = await self.reservations.plan(subjects, model.id)
        claim = Claim(
            "", who.organization, rows, sizes.prompt.tokens, sizes.wanted, sizes.least, input_cost, output_price
        )
        standings = await self.reservations.standings(who.organization, list(rows))
        output, refusing = room(claim, standings)
        refusal = None
        if refusing:
            first = gravest(claim, refusing)
            asked = claim.need(first.row.rule.metric, claim.least_output_tokens)
            refusal = refusal_error(Refusal(first, asked), self.ledger.now_us() / 1e6)
        longest = sizes.cap if sizes.cap is not None else max(sizes.wanted, UNSTATED_ANSWER_TOKENS)
        worst = None if tariff is None else tariff.dearest(sizes.prompt.tokens, longest, request.service_tier)
        return Preview(sizes.prompt, standings, claim, output, worst, refusal)

    def begin(
        self,
        caller: MeteredCaller,
        requested_model: str,
        *,
        streamed: bool,
        user: str = "",
        metadata: Mapping[str, str] | None = None,
    ) -> Metered:
        """Open the record of a call. Raises ledger_unavailable."""
        who, asserted = caller.identity, caller.caller
        record = self.ledger.open(
            OpenRequest(
                request_id=caller.request_id,
                start_us=self.ledger.now_us(),
                organization_id=id_of(who.organization),
                key_id=who.key_id,
                member_id=id_of(who.owner),
                team_id=id_of(who.team),
                requested_model=requested_model[:256],
                surface=caller.surface,
                streamed=streamed,
                user=user,
                metadata=dict(metadata) if metadata else {},
                labels=_labels(metadata) if metadata else {},
                key_labels=dict(who.labels) if who.labels else {},
                client_kind=asserted.client_kind if asserted is not None else "",
                client_version=asserted.client_version if asserted is not None else "",
                credential_kind=usage_pb2.CREDENTIAL_KIND_API_KEY,
                host=asserted.host if asserted is not None else "",
                route=asserted.http_route if asserted is not None else caller.method,
                address=caller.address,
            )
        )
        return Metered(self._parts, record, Subjects(who.name, who.owner, who.team, who.organization))


def _labels(metadata: Mapping[str, str]) -> dict[str, str]:
    """Return what usage is grouped by: the caller's metadata, of more than eight the first by name."""
    return {name: metadata[name] for name in sorted(metadata)[:MOST_LABELS]}
