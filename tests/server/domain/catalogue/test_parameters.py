"""What the parameters of a route may be."""

import pytest

from tokendance.gateway.v1 import completion_pb2 as pb
from tokendance_server.domain.catalogue.parameters import canonical, overridden, problem_of


@pytest.mark.parametrize("text", ["", "{}", '{"temperature":0.5}', '{"generationConfig":{"topK":1}}', '{"a":null}'])
def test_one_object_is_good(text: str) -> None:
    """Whatever the upstream calls its fields."""
    assert problem_of(text, forced=False) is problem_of(text, forced=True) is None


@pytest.mark.parametrize(
    "text", ["[]", "null", "1", "{", '{"a":NaN}', '{"a":' * 40 + "1" + "}" * 40, '{"a":"' + "x" * 20_000 + '"}']
)
def test_anything_else_is_not(text: str) -> None:
    """Nor one that is too large, or nested too deeply."""
    assert (problem_of(text, forced=False) or "").startswith("must be")


@pytest.mark.parametrize("name", ["model", "messages", "stream", "n", "contents", "input", "stream_options"])
def test_what_the_gateway_says_itself_is_not_among_them(name: str) -> None:
    """It decides what a call costs, and how its answer is read."""
    assert name in (problem_of(f'{{"{name}":1}}', forced=False) or "")


def test_what_bounds_an_answer_is_the_callers() -> None:
    """A default may stand where a caller gives no cap; none is forced over one."""
    for text in ('{"max_tokens":5}', '{"generationConfig":{"maxOutputTokens":5}}'):
        assert problem_of(text, forced=False) is None
        assert problem_of(text, forced=True) is not None
    assert problem_of('{"generationConfig":{"candidateCount":5}}', forced=False) is not None


def test_they_are_kept_compact() -> None:
    """In their order, and not at all where they are empty."""
    assert canonical('{ "b": "é", "a": 1 }') == '{"b":"é","a":1}'
    assert canonical("{ }") == canonical("") == ""


def test_a_caller_is_told_of_what_is_forced_over_its_own() -> None:
    """By its name in the caller's request; what it did not say is nobody's loss."""
    request = pb.CompletionRequest(
        sampling=pb.Sampling(temperature=0.5, stop=["a"]),
        reasoning=pb.Reasoning(effort="high"),
        service_tier="flex",
        extra_json='{"enable_thinking":true}',
    )
    forced = (
        '{"temperature":1,"top_p":1,"reasoning_effort":"low","enable_thinking":false,"service_tier":null,"stop":"b"}'
    )
    told = [warning.field for warning in overridden(request, forced)]
    assert told == ["temperature", "reasoning_effort", "enable_thinking", "service_tier", "stop"]
    assert overridden(request, "") == ()
    assert overridden(pb.CompletionRequest(extra_json="no JSON"), forced) == []
