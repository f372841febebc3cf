"""Models that stand in for others: for which causes, at whose price and limits, and what their answers tell."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.server.domain.routing.roads import HOLDER, KEY, LIMITED, TIMEOUT, Roads, failure

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import errors_pb2, quota_pb2, usage_pb2
from tokendance.gateway.v1.errors_pb2 import ErrorReason
from tokendance_server.domain.catalogue.models import Fallback, FallbackCause, Model, Route
from tokendance_server.domain.keys.key import LimitRule
from tokendance_server.domain.quota.claims import row_of

TOO_LONG = errors_pb2.ERROR_REASON_CONTEXT_LENGTH_EXCEEDED
FILTERED = errors_pb2.ERROR_REASON_CONTENT_FILTERED
LARGE = Model("large", (Route("b", "up"),))


def small(*fallbacks: Fallback) -> Model:
    """A model that falls back."""
    return Model("m", (Route("a", "up"),), fallbacks=fallbacks)


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(
    ("cause", "reason", "status"),
    [
        (FallbackCause.CONTEXT_LENGTH, TOO_LONG, 400),
        (FallbackCause.CONTENT_FILTER, FILTERED, 400),
        (FallbackCause.UNAVAILABLE, TIMEOUT, 0),
        (FallbackCause.UNAVAILABLE, LIMITED, 429),
    ],
)
async def test_another_model_answers_for_the_causes_that_are_named(
    cause: FallbackCause, reason: ErrorReason.ValueType, status: int, streamed: bool
) -> None:
    """And says that it is another one; without its cause it does not."""
    roads = Roads([small(Fallback("large", (cause,))), LARGE])
    roads.up["a"].fail(reason, status)
    if streamed:
        started = (await roads.stream())[0].started
        model, account = started.model, started.account
    else:
        completion = await roads.create()
        model, account = completion.model, completion.account
    assert model == "large"
    assert (account.fallback_model, account.retries, account.served_by) == ("large", 1, "Label b")
    (record,) = roads.records
    assert record.served_model == "large"
    assert [(one.model, one.provider) for one in record.attempts] == [("m", "a"), ("large", "b")]
    others = tuple(one for one in FallbackCause if one is not cause)
    strict = Roads([small(Fallback("large", others)), LARGE])
    strict.up["a"].fail(reason, status)
    assert await strict.code(streamed=streamed) != "ok"
    assert strict.up["b"].calls == 0


async def test_the_first_that_can_answer_does() -> None:
    """In the order of the configuration; one that fails itself is passed over, too."""
    third = Model("third", (Route("c", "up"),))
    roads = Roads([small(Fallback("large"), Fallback("third")), LARGE, third])
    roads.up["a"].fail(TIMEOUT, 0)
    roads.up["b"].fail(TIMEOUT, 0)
    assert (await roads.create()).account.fallback_model == "third"
    roads.up["c"].fail(TIMEOUT, 0)
    assert await roads.code() == "provider_timeout"


async def test_where_all_routes_are_out_the_stand_in_is_asked_at_once() -> None:
    """Nobody is asked in vain before."""
    roads = Roads([small(Fallback("large")), LARGE])
    roads.up["a"].fail(TIMEOUT, 0)
    for _ in range(5):
        await roads.create()
    account = (await roads.create()).account
    assert roads.up["a"].calls == 5
    assert (account.retries, account.fallback_model) == (0, "large")


async def test_a_stand_in_that_the_caller_may_not_call_is_passed_over() -> None:
    """By its key, or by a policy's tags."""
    tagged = replace(LARGE, routes=(Route("b", "up", tags=("trains-on-data",)),))
    roads = Roads([small(Fallback("large")), tagged])
    roads.up["a"].fail(TOO_LONG, 400)
    for who in (
        replace(HOLDER, allowed_models=frozenset({"m"})),
        replace(HOLDER, excluded_route_tags=frozenset({"trains-on-data"})),
    ):
        assert await roads.code(who=who) == "context_length_exceeded"
    assert roads.up["b"].calls == 0


async def test_a_stand_in_is_reserved_anew_under_its_own_limits() -> None:
    """A limit of the other model refuses the call, and what was held of the first one is free again."""
    requests, total = quota_pb2.LIMIT_METRIC_REQUESTS, quota_pb2.LIMIT_WINDOW_TOTAL
    of_small = LimitRule(requests, total, 10, model="m")
    of_large = LimitRule(requests, total, 1, model="large")
    roads = Roads([small(Fallback("large")), LARGE], of_small, of_large)
    roads.up["a"].fail(TOO_LONG, 400)
    assert await roads.code() == "ok"
    assert await roads.code() == "quota_exceeded"
    rows = [row_of(KEY, of_small), row_of(KEY, of_large)]
    standings = await roads.meter.reservations.standings(HOLDER.organization, rows)
    assert [(one.spent, one.held) for one in standings] == [(0, 0), (1, 0)]
    assert roads.records[-1].outcome == usage_pb2.REQUEST_OUTCOME_FAILED


async def test_the_cap_that_limits_set_for_one_model_is_not_that_of_the_other() -> None:
    """The caller asked for no cap, and the second model has no limit."""
    output, total = quota_pb2.LIMIT_METRIC_OUTPUT_TOKENS, quota_pb2.LIMIT_WINDOW_TOTAL
    roads = Roads([small(Fallback("large")), LARGE], LimitRule(output, total, 100, model="m"))
    seen: list[int] = []
    plain = roads.up["b"].complete

    async def complete(request: object, call: object) -> object:
        seen.append(request.max_output_tokens)  # type: ignore[attr-defined]
        return await plain(request, call)  # type: ignore[arg-type]

    roads.up["b"].complete = complete  # type: ignore[method-assign, assignment]
    roads.up["a"].fail(TOO_LONG, 400)
    await roads.create()
    assert seen == [0]


async def test_too_long_a_prompt_falls_back_beyond_the_budget_of_retries() -> None:
    """Each of many calls: it is not a failure, and the other model is where they belong."""
    roads = Roads([small(Fallback("large", (FallbackCause.CONTEXT_LENGTH,))), LARGE])
    roads.up["a"].fail(TOO_LONG, 400)
    assert [await roads.code() for _ in range(50)] == ["ok"] * 50
    assert roads.router.budget.refused == 0


async def test_a_request_that_no_route_can_carry_is_refused_as_it_is() -> None:
    """A model that is up stands in for none that could not carry the request."""
    roads = Roads([small(Fallback("large")), LARGE])
    roads.up["a"].refuses = GatewayError(
        errors_pb2.ERROR_REASON_UNSUPPORTED_PARAMETER, "No.", param="n", origin="caller"
    )
    assert await roads.code() == "unsupported_parameter"
    assert roads.up["b"].calls == 0


async def test_the_last_error_is_told_where_nobody_answers() -> None:
    """Each attempt is on record with its own."""
    roads = Roads([small(Fallback("large")), LARGE])
    roads.up["a"].fail(TOO_LONG, 400)
    roads.up["b"].failure, roads.up["b"].status = failure(), 200
    assert await roads.code() == "provider_error"
    assert [one.reason for one in roads.records[0].attempts] == [TOO_LONG, errors_pb2.ERROR_REASON_PROVIDER_ERROR]
