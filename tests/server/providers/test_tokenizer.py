"""Exact counts of prompts, against counts that the publisher of the vocabularies printed."""

from __future__ import annotations

import time

import pytest

from tokendance.gateway.v1 import completion_pb2 as pb
from tokendance_server.domain.usage.estimates import Estimates
from tokendance_server.providers import tokenizer
from tokendance_server.providers.tokenizer import MOST_BYTES, ExactTokenizer


@pytest.fixture(scope="module")
def exact() -> ExactTokenizer:
    """Return a tokenizer of two models; it takes half a second to load."""
    return ExactTokenizer({"new": "o200k_base", "old": "cl100k_base"})


def turn(text: str, role: pb.Role.ValueType = pb.ROLE_USER, name: str = "") -> pb.Message:
    """Return a turn of one text."""
    return pb.Message(role=role, name=name, parts=[pb.Part(text=pb.Text(text=text))])


def test_plain_turns_are_counted_as_their_publisher_counts_them(exact: ExactTokenizer) -> None:
    """`hello world` has 2 tokens in both; each turn takes 3 more and its role, the answer's beginning 3."""
    request = pb.CompletionRequest(messages=[turn("hello world")])
    assert exact.count("new", request, 11) == exact.count("old", request, 11) == 3 + 3 + 1 + 2


def test_roles_and_names_count(exact: ExactTokenizer) -> None:
    """A name takes one token more than its text."""
    plain = exact.count("old", pb.CompletionRequest(messages=[turn("hello world")]), 11)
    named = exact.count("old", pb.CompletionRequest(messages=[turn("hello world", name="hello")]), 11)
    two = exact.count("old", pb.CompletionRequest(messages=[turn("hello world", pb.ROLE_SYSTEM), turn("hello")]), 16)
    assert (plain, named, two) == (9, 11, 9 + 5)


def test_what_looks_like_a_special_token_is_text(exact: ExactTokenizer) -> None:
    """A caller's text cannot end a turn, nor fail the count."""
    counted = exact.count("new", pb.CompletionRequest(messages=[turn("<|endoftext|>")]), 13)
    assert counted is not None
    assert counted > 3 + 3 + 1 + 1


@pytest.mark.parametrize(
    "request_",
    [
        pb.CompletionRequest(messages=[turn("x")], tools=[pb.Tool(name="t")]),
        pb.CompletionRequest(
            messages=[turn("x")], response_format=pb.ResponseFormat(kind=pb.RESPONSE_FORMAT_KIND_TEXT)
        ),
        pb.CompletionRequest(messages=[turn("x", pb.ROLE_TOOL)]),
        pb.CompletionRequest(messages=[pb.Message(role=pb.ROLE_USER, parts=[*turn("x").parts, *turn("y").parts])]),
        pb.CompletionRequest(
            messages=[pb.Message(role=pb.ROLE_USER, parts=[pb.Part(image=pb.Image(url="https://x"))])]
        ),
    ],
    ids=["tools", "form", "tool result", "two texts", "picture"],
)
def test_what_is_not_plain_is_left_to_the_estimates(exact: ExactTokenizer, request_: pb.CompletionRequest) -> None:
    """What a provider's format adds to it is not known."""
    assert exact.count("new", request_, 1) is None


def test_other_models_and_long_prompts_are_left_to_the_estimates(exact: ExactTokenizer) -> None:
    """The event loop is held for a bounded time only."""
    assert exact.count("other", pb.CompletionRequest(messages=[turn("x")]), 1) is None
    assert exact.count("new", pb.CompletionRequest(messages=[turn("x")]), MOST_BYTES + 1) is None


@pytest.mark.parametrize("text", ["a", " ", "\u0301", "<|", "0", "\n"])
def test_hostile_prompts_hold_the_loop_for_a_bounded_time(exact: ExactTokenizer, text: str) -> None:
    """A text of one character over and over is the slowest; a second of CPU would be a defect, 20 ms is usual."""
    long = text * (MOST_BYTES // len(text.encode()))
    began = time.process_time()
    assert exact.count("new", pb.CompletionRequest(messages=[turn(long)]), MOST_BYTES)
    assert time.process_time() - began < 1


def test_an_exact_count_is_said_to_be_one(exact: ExactTokenizer) -> None:
    """The estimate of a counted prompt is the count itself."""
    estimate = Estimates(exact).prompt("new", pb.CompletionRequest(messages=[turn("hello world")]))
    assert (estimate.tokens, estimate.exact) == (9, True)


def test_a_vocabulary_that_was_changed_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counts of another vocabulary would be wrong without anybody noticing."""
    monkeypatch.setitem(tokenizer.VOCABULARIES, "cl100k_base", "0" * 64)
    with pytest.raises(ValueError, match="cl100k_base is not what its publisher expects"):
        ExactTokenizer({"old": "cl100k_base"})
