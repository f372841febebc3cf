"""The ways that calls go: which route is taken, and what becomes of a call whose route fails before it answered."""

from __future__ import annotations

import asyncio
import random
from contextlib import aclosing
from dataclasses import replace

import pytest
from tests.server.domain.routing.roads import (
    CUT,
    ERROR,
    HOLDER,
    LIMITED,
    TIMEOUT,
    UNAVAILABLE,
    Roads,
    failure,
    other_organization,
    request,
)

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import errors_pb2, usage_pb2
from tokendance.gateway.v1.errors_pb2 import ErrorReason
from tokendance_server.domain.catalogue.models import Caps, Route
from tokendance_server.domain.routing.circuit import CircuitState
from tokendance_server.domain.routing.credentials import CredentialRules
from tokendance_server.domain.routing.router import RoutingRules

A, B, C = (Route(name, "up") for name in "abc")
TWO = {"m": [A, replace(B, priority=1)]}
FORBIDDEN, REJECTED = 403, errors_pb2.ERROR_REASON_PROVIDER_REJECTED


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("reason", [UNAVAILABLE, TIMEOUT, ERROR, LIMITED, CUT])
async def test_the_next_route_answers_where_the_first_fails(reason: ErrorReason.ValueType, streamed: bool) -> None:
    """The caller sees an answer, and what was tried is on record: one row for each attempt, one charged."""
    roads = Roads(TWO)
    roads.up["a"].fail(reason)
    assert await roads.said(streamed=streamed) == "b"
    (record,) = roads.records
    assert record.outcome == usage_pb2.REQUEST_OUTCOME_SUCCEEDED
    assert [(one.number, one.provider, one.reason, one.upstream_status) for one in record.attempts] == [
        (1, "a", reason, 503),
        (2, "b", 0, 200),
    ]
    assert [one.counts.output_tokens for one in record.attempts] == [0, 5]


@pytest.mark.parametrize("streamed", [False, True])
async def test_an_answer_tells_who_served_and_how_often_it_was_tried(streamed: bool) -> None:
    """Degradation reaches the caller; an answer of the first route says nothing of the kind."""
    roads = Roads(TWO)
    accounts = []
    for _ in range(2):
        if streamed:
            accounts.append((await roads.stream())[0].started.account)
        else:
            accounts.append((await roads.create()).account)
        roads.up["a"].fail()
    assert [(one.served_by, one.retries, one.fallback_model) for one in accounts] == [
        ("Label a", 0, ""),
        ("Label b", 1, ""),
    ]


async def test_a_stream_that_begins_and_then_fails_is_routed_around() -> None:
    """It commits at the first event that carries content, and its beginning is not shown before."""
    roads = Roads(TWO)
    roads.up["a"].fail(CUT, 200)
    roads.up["a"].begins = True
    events = await roads.stream()
    assert [event.WhichOneof("event") for event in events] == ["started", "text", "finished"]
    assert events[0].started.account.retries == 1


async def test_a_stream_that_fails_midway_is_not_made_again() -> None:
    """What came cannot be taken back: the caller gets the error, and nobody else is asked."""
    roads = Roads(TWO)
    roads.up["a"].fail(CUT, 200)
    roads.up["a"].fails_midway = True
    assert await roads.code(streamed=True) == "stream_interrupted"
    assert roads.calls == {"a": 1, "b": 0}
    assert roads.router.model_health()[0].failed == 1


@pytest.mark.parametrize("reason", [REJECTED, errors_pb2.ERROR_REASON_CONTENT_FILTERED])
async def test_what_the_table_does_not_call_retryable_is_told_at_once(reason: ErrorReason.ValueType) -> None:
    """And is no failure of the route."""
    roads = Roads(TWO)
    roads.up["a"].fail(reason, 400)
    for _ in range(20):
        assert await roads.code() != "ok"
    assert roads.calls == {"a": 20, "b": 0}
    health = roads.router.route_health()[0]
    assert (health.state, health.recent_failures) == (CircuitState.CLOSED, 0)
    assert roads.router.model_health()[0].calls == 0


async def test_no_retry_past_the_callers_deadline() -> None:
    """Who has no time left gets the error as it is."""
    roads = Roads(TWO)
    roads.up["a"].fail()
    with pytest.raises(GatewayError):
        await roads.create(left_s=0.05)
    assert roads.calls == {"a": 1, "b": 0}


async def test_a_lone_route_is_asked_once_more_where_it_never_got_to_an_answer() -> None:
    """A moment later; a timeout, and an answer that was none, are not."""
    roads = Roads({"m": [A]})
    roads.up["a"].status = 503
    roads.up["a"].each = lambda call: failure() if call == 1 else None
    assert (await roads.create()).account.retries == 1
    roads.up["a"].each = None
    for reason, status in ((TIMEOUT, 0), (ERROR, 200)):
        before = roads.up["a"].calls
        roads.up["a"].fail(reason, status)
        assert await roads.code() != "ok"
        assert roads.up["a"].calls == before + 1


async def test_retries_are_bounded_by_their_budget() -> None:
    """All routes down at full load: at most a fifth more goes out than comes in, and callers get the first error."""
    roads = Roads({"m": [A, B, C]}, random=random.Random(3).random)
    for one in roads.up.values():
        one.fail()
    requests = 1000
    for _ in range(requests):
        roads.clock.advance(0.01)
        assert await roads.code() == "provider_error"
    asked = sum(roads.calls.values())
    assert requests <= asked <= 1.2 * requests
    assert all(health.state is not CircuitState.CLOSED for health in roads.router.route_health())


async def test_a_flapping_route_of_three_is_taken_out_and_comes_back() -> None:
    """Half of its calls fail: callers notice nothing, it is used little, and once it works again it has its share."""
    roads = Roads({"m": [A, B, C]}, random=random.Random(5).random)
    roads.up["a"].status = 503
    roads.up["a"].each = lambda call: failure() if call % 2 else None
    for _ in range(600):
        roads.clock.advance(0.05)
        assert await roads.code() == "ok"
    assert ("opened", "a outlier") in roads.told.said or ("opened", "a dead") in roads.told.said
    assert roads.up["a"].calls < 100
    roads.up["a"].each = None
    before = roads.calls
    for _ in range(1200):
        roads.clock.advance(0.05)
        assert await roads.code() == "ok"
    assert roads.router.route_health()[0].state is CircuitState.CLOSED
    assert roads.up["a"].calls - before["a"] > 100


async def test_the_last_route_is_never_taken_out() -> None:
    """A lone route that fails is asked all the same, and the first answer that it gives is delivered."""
    roads = Roads({"m": [A]})
    roads.up["a"].fail(TIMEOUT, 0)
    for _ in range(20):
        assert await roads.code() == "provider_timeout"
    assert roads.router.route_health()[0].state is CircuitState.OPEN
    assert roads.up["a"].calls == 20
    roads.up["a"].work()
    assert await roads.code() == "ok"


async def test_half_open_a_route_has_one_probe_at_a_time() -> None:
    """Whoever comes meanwhile goes elsewhere."""
    roads = Roads(TWO)
    roads.up["a"].fail()
    for _ in range(5):
        await roads.said()
    roads.up["a"].work()
    roads.up["a"].gate.clear()
    roads.clock.advance(1.0)
    before = roads.calls["a"]
    probe = asyncio.create_task(roads.said())
    await asyncio.sleep(0)
    assert [await roads.said() for _ in range(3)] == ["b"] * 3
    assert roads.calls["a"] == before + 1
    roads.up["a"].gate.set()
    assert await probe == "a"
    assert await roads.said() == "a"
    assert roads.told.said[-1] == ("closed", "a")


async def test_a_probe_whose_caller_leaves_frees_its_place() -> None:
    """And counts nowhere as running."""
    roads = Roads(TWO)
    roads.up["a"].fail()
    for _ in range(5):
        await roads.said()
    roads.up["a"].work()
    roads.up["a"].gate.clear()
    roads.clock.advance(1.0)
    probe = asyncio.create_task(roads.said())
    await asyncio.sleep(0)
    probe.cancel()
    with pytest.raises(asyncio.CancelledError):
        await probe
    roads.up["a"].gate.set()
    assert await roads.said() == "a"
    assert [health.running_calls for health in roads.router.route_health()] == [0, 0]


async def test_a_route_that_cannot_carry_the_request_is_passed_over() -> None:
    """Where another can; where none can, the field at fault is told, and nobody is called."""
    roads = Roads(TWO)
    unsupported = GatewayError(
        errors_pb2.ERROR_REASON_UNSUPPORTED_PARAMETER, "No.", param="logit_bias", origin="caller"
    )
    roads.up["a"].refuses = unsupported
    assert await roads.said() == "b"
    roads.up["b"].refuses = unsupported
    assert await roads.code() == "unsupported_parameter"
    assert roads.calls == {"a": 0, "b": 1}


async def test_a_policys_tags_are_left_by_no_retry() -> None:
    """An excluded route is not even taken where the only other one fails."""
    roads = Roads({"m": [A, replace(B, tags=("trains-on-data",))]})
    careful = replace(HOLDER, excluded_route_tags=frozenset({"trains-on-data"}))
    roads.up["a"].fail(TIMEOUT, 0)
    for _ in range(30):
        assert await roads.code(who=careful) == "provider_timeout"
    assert roads.calls == {"a": 30, "b": 0}
    assert await roads.said() == "b"


async def test_a_model_of_which_every_route_is_excluded_may_not_be_called() -> None:
    """Nor is it among the models of the key."""
    roads = Roads({"m": [replace(A, tags=("region:us",))]})
    careful = replace(HOLDER, excluded_route_tags=frozenset({"region:us"}))
    assert await roads.code(who=careful) == "model_not_allowed"
    assert not roads.serving.catalog.visible_to(careful)


async def test_a_limited_credential_rests_and_the_next_one_is_used() -> None:
    """Rotated on 429; Retry-After is obeyed, and where all rest the caller is told for how long."""
    roads = Roads({"m": [A]}, seats={"a": 2})
    roads.up["a0"].fail(LIMITED, 429, wait_s=7)
    for _ in range(6):
        assert await roads.said() == "a1"
    assert roads.up["a0"].calls == 1
    roads.up["a1"].fail(LIMITED, 429, wait_s=5)
    with pytest.raises(GatewayError) as caught:
        await roads.create()
    assert caught.value.code == "provider_rate_limited"
    with pytest.raises(GatewayError) as caught:
        await roads.create()
    assert (caught.value.code, caught.value.retry_after_s) == ("provider_rate_limited", 5)
    assert roads.calls == {"a0": 1, "a1": 7}
    roads.clock.advance(5)
    roads.up["a1"].work()
    assert await roads.said() == "a1"


async def test_credentials_share_the_calls() -> None:
    """In turn where none is busier."""
    roads = Roads({"m": [A]}, seats={"a": 3})
    for _ in range(9):
        await roads.said()
    assert roads.calls == {"a0": 3, "a1": 3, "a2": 3}


@pytest.mark.parametrize("status", [401, 402, 429])
async def test_a_refused_credential_is_taken_out_with_an_alarm(status: int) -> None:
    """At once, for all; callers get another one's answer, and the refusal is never told as theirs."""
    roads = Roads({"m": [A], "n": [A]}, seats={"a": 2})
    roads.up["a0"].fail(UNAVAILABLE, status)
    for model in "mnmn":
        assert await roads.said(model) == "a1"
    assert roads.calls == {"a0": 1, "a1": 4}
    assert roads.told.said == [("refused", f"a {402 if status == 429 else status}")]


async def test_a_refused_credential_is_looked_at_again_after_a_while() -> None:
    """By one call; until then nobody asks the provider, even where there is no other."""
    roads = Roads({"m": [A]})
    roads.up["a"].fail(UNAVAILABLE, 401)
    for _ in range(5):
        assert await roads.code() == "provider_unavailable"
    assert roads.up["a"].calls == 1
    health = roads.router.route_health()[0]
    assert (health.credential_rejected, health.state) == (True, CircuitState.OPEN)
    roads.clock.advance(600)
    assert await roads.code() == "provider_unavailable"
    assert await roads.code() == "provider_unavailable"
    assert roads.up["a"].calls == 2
    roads.up["a"].work()
    roads.clock.advance(600)
    assert await roads.code() == "ok"
    assert roads.told.said[-1] == ("restored", "a")
    assert not roads.router.route_health()[0].credential_rejected


async def test_one_callers_forbidden_prompts_disable_the_credential_for_nobody() -> None:
    """Only where several organizations met a 403, with no success between them."""
    roads = Roads({"m": [A]})
    roads.up["a"].fail(UNAVAILABLE, FORBIDDEN)
    for _ in range(50):
        assert await roads.code() == "provider_unavailable"
    assert roads.up["a"].calls == 50
    roads.up["a"].work()
    assert await roads.code(who=other_organization(2)) == "ok"
    roads.up["a"].fail(UNAVAILABLE, FORBIDDEN)
    for number in (1, 2):
        assert await roads.code(who=other_organization(number)) == "provider_unavailable"
    assert roads.told.said == []
    assert await roads.code(who=other_organization(3)) == "provider_unavailable"
    assert roads.told.said == [("refused", "a 403")]
    before = roads.up["a"].calls
    assert await roads.code() == "provider_unavailable"
    assert roads.up["a"].calls == before


async def test_a_route_that_asked_for_patience_is_left_alone_so_long() -> None:
    """503 with Retry-After: obeyed also where there is no other route."""
    roads = Roads({"m": [A]})
    roads.up["a"].fail(ERROR, 503, wait_s=30)
    assert await roads.code() == "provider_error"
    with pytest.raises(GatewayError) as caught:
        await roads.create()
    assert (caught.value.code, caught.value.retry_after_s) == ("provider_unavailable", 30)
    assert roads.up["a"].calls == 1
    roads.clock.advance(30)
    roads.up["a"].work()
    assert await roads.code() == "ok"


async def test_a_route_at_its_cap_is_skipped_and_all_full_is_rate_limited() -> None:
    """Two calls at once, then one a minute; what ended gives its place back."""
    capped = replace(A, caps=Caps(max_concurrent_requests=1))
    roads = Roads({"m": [capped, replace(B, priority=1, caps=Caps(max_requests_per_minute=1))]})
    roads.up["a"].gate.clear()
    first = asyncio.create_task(roads.said())
    await asyncio.sleep(0.01)
    assert await roads.said() == "b"
    with pytest.raises(GatewayError) as caught:
        await roads.create()
    assert caught.value.code == "provider_rate_limited"
    assert caught.value.retry_after_s is not None
    roads.up["a"].gate.set()
    assert await first == "a"
    assert await roads.said() == "a"


async def test_tokens_count_against_a_cap_as_they_were_used() -> None:
    """Twelve a call: a cap of thirty has room for two, and for the third only where its estimate fits."""
    roads = Roads({"m": [A]}, caps={"a": Caps(max_tokens_per_minute=30)})
    outcomes = [await roads.code() for _ in range(4)]
    assert outcomes[0] == "ok"
    assert outcomes[-1] == "provider_rate_limited"


async def test_a_caller_that_leaves_a_stream_leaves_nothing_behind() -> None:
    """Its place at the cap and its count of running calls are free again."""
    roads = Roads({"m": [replace(A, caps=Caps(max_concurrent_requests=1))]})
    async with aclosing(roads.completions.stream(request(), roads.caller())) as batches:  # type: ignore[type-var]
        await anext(batches)
    assert roads.router.route_health()[0].running_calls == 0
    assert await roads.said() == "a"


async def test_what_is_known_of_a_route_outlives_a_change_of_the_catalogue() -> None:
    """Its circuit is still open; that of a route which is gone is forgotten."""
    roads = Roads(TWO, rules=RoutingRules(credentials=CredentialRules(recheck_s=5)))
    roads.up["a"].fail()
    for _ in range(5):
        await roads.said()
    roads.serving = replace(roads.serving)
    assert roads.router.route_health()[0].state is CircuitState.OPEN
    assert await roads.said() == "b"
    assert roads.up["a"].calls == 5


async def test_what_another_node_found_takes_a_route_out_here_but_not_the_last() -> None:
    """Told by its provider's and its model's name there."""
    roads = Roads(TWO)
    roads.router.told(("a", "up"), 10)
    assert await roads.said() == "b"
    roads.router.told(("b", "up"), 10)
    assert await roads.said() in {"a", "b"}
    roads.router.told(("unknown", "up"), 10)
