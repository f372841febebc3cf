"""What one call claims of each limit that applies to it, and what it got."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from tokendance.gateway.v1 import quota_pb2
from tokendance_server.domain.keys.key import LimitRule

REQUESTS = quota_pb2.LIMIT_METRIC_REQUESTS
INPUT = quota_pb2.LIMIT_METRIC_INPUT_TOKENS
OUTPUT = quota_pb2.LIMIT_METRIC_OUTPUT_TOKENS
TOTAL_TOKENS = quota_pb2.LIMIT_METRIC_TOTAL_TOKENS
COST = quota_pb2.LIMIT_METRIC_COST_MICROS
CONCURRENT = quota_pb2.LIMIT_METRIC_CONCURRENT_REQUESTS

MILLION = 1_000_000


class Row(NamedTuple):
    """One limit of one subject, a resource name. `counter` names what counts against it, without the window."""

    counter: str
    subject: str
    rule: LimitRule


def row_of(subject: str, rule: LimitRule) -> Row:
    """Return the row of a limit. Hard and soft limits of one kind count apart."""
    return Row(f"{subject}|{rule.metric}|{rule.window}|{rule.model}|{int(rule.soft)}", subject, rule)


# Not frozen, which would cost more than all else that is done with it.
@dataclass(slots=True)
class Claim:
    """What a call wants to hold: one request, its prompt, and so many tokens of an answer.

    Of the answer it takes less, down to `least_output_tokens`, where a limit leaves no more. `input_cost` is in
    micro-USD, `output_price` in micro-USD per million tokens; both are None where the model has no price.
    `organization` is a resource name: everything of one is counted in one place.
    """

    id: str
    organization: str
    rows: Sequence[Row]
    input_tokens: int = 0
    output_tokens: int = 0
    least_output_tokens: int = 0
    input_cost: int | None = None
    output_price: int | None = None
    lease: str = ""
    """The name under which it is held, where whoever claims keeps it itself; no two claims have the same."""

    def need(self, metric: int, output_tokens: int) -> int:
        """Return what the call would take of a metric with so many tokens of an answer."""
        if metric in (REQUESTS, CONCURRENT):
            return 1
        if metric == INPUT:
            return self.input_tokens
        if metric == OUTPUT:
            return output_tokens
        if metric == TOTAL_TOKENS:
            return self.input_tokens + output_tokens
        if self.input_cost is None or self.output_price is None:
            return 0
        return self.input_cost - (-output_tokens * self.output_price // MILLION)

    def affordable(self, metric: int, left: int) -> int | None:
        """Return how many tokens of an answer fit into what is left of a metric; None where they do not count there."""
        if metric == OUTPUT:
            return left
        if metric == TOTAL_TOKENS:
            return left - self.input_tokens
        if metric == COST and self.input_cost is not None and self.output_price:
            return (left - self.input_cost) * MILLION // self.output_price
        return None


class Standing(NamedTuple):
    """How a limit stands: what finished calls used in its window, and what running ones hold. `window` is its id.

    `wait_s` is how long a minute's limit has to be waited for, where that is known.
    """

    row: Row
    window: int
    spent: int
    held: int
    wait_s: float | None = None

    @property
    def left(self) -> int:
        """What a new call could still hold, 0 or more."""
        return max(self.row.rule.limit - self.spent - self.held, 0)


def refusing(claim: Claim, standings: Sequence[Standing]) -> Standing | None:
    """Return the hard limit that refuses a claim even at its least, and None where none does.

    Of several, one that no waiting cures comes first, then a minute's, then that of calls at once, and last one that is
    only held: whoever is told of the last would wait in vain for the first.
    """
    found: list[tuple[int, Standing]] = []
    for standing in standings:
        rule = standing.row.rule
        asked = claim.need(rule.metric, claim.least_output_tokens)
        if rule.soft or standing.spent + standing.held + asked <= rule.limit:
            continue
        if rule.metric == CONCURRENT:
            rank = 2
        elif rule.window == quota_pb2.LIMIT_WINDOW_MINUTE:
            rank = 1
        else:
            rank = 0 if standing.spent + asked > rule.limit else 3
        found.append((rank, standing))
    return min(found, key=lambda one: one[0])[1] if found else None


class Hold(NamedTuple):
    """What a call holds of one limit, in the window in which it took it."""

    row: Row
    window: int
    amount: int


@dataclass(slots=True)
class Grant:
    """What a call got: `output_tokens` of an answer, and a hold of each limit. `standings` are those before it.

    A grant lasts for its lease and is renewed while the call runs; `over` is set once it was settled or given back.
    """

    claim: Claim
    output_tokens: int
    holds: list[Hold]
    standings: list[Standing] = field(default_factory=list)
    over: bool = False
    lease: str = ""
    """The name under which counters elsewhere keep it; no two grants have the same."""

    def first_holds(self) -> list[Hold]:
        """Return the hold that each limit began with, in the order of the claim's rows."""
        return self.holds[: len(self.claim.rows)]

    def hold(self, more: Hold) -> None:
        """Take more of a limit: into the hold of the same window, or a further one behind all others."""
        for place, hold in enumerate(self.holds):
            if hold.window == more.window and hold.row is more.row:
                self.holds[place] = hold._replace(amount=hold.amount + more.amount)
                return
        self.holds.append(more)


class Refusal(NamedTuple):
    """The limit that refused a call, how it stands, and what the call asked of it. Nothing is held."""

    standing: Standing
    asked: int
    standings: Sequence[Standing] = ()


class Used(NamedTuple):
    """What a call used in the end; 0 or more of each. `cost_micros` is None where it has no price."""

    input_tokens: int = 0
    output_tokens: int = 0
    cost_micros: int | None = None

    def of(self, metric: int) -> int:
        """Return what counts against a metric."""
        if metric == REQUESTS:
            return 1
        if metric == INPUT:
            return self.input_tokens
        if metric == OUTPUT:
            return self.output_tokens
        if metric == TOTAL_TOKENS:
            return self.input_tokens + self.output_tokens
        if metric == COST:
            return self.cost_micros or 0
        return 0


def charges(holds: Sequence[Hold], used: Used) -> list[Hold]:
    """Return what a call is charged of each limit, in the windows in which it held it, the oldest first.

    What it used beyond what it held is charged in the newest.
    """
    left: dict[str, int] = {}
    newest = {hold.row.counter: place for place, hold in enumerate(holds)}
    charged = []
    for place, hold in enumerate(holds):
        counter = hold.row.counter
        rest = left.get(counter)
        if rest is None:
            rest = max(used.of(hold.row.rule.metric), 0)
        amount = rest if newest[counter] == place else min(rest, hold.amount)
        left[counter] = rest - amount
        if amount:
            charged.append(Hold(hold.row, hold.window, amount))
    return charged
