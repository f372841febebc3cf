"""What is learnt of sizes: it comes close to what providers count, and nothing that they say takes it out of bounds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokendance.gateway.v1 import completion_pb2 as pb
from tokendance_server.domain.usage.counts import MOST_TOKENS, Counts
from tokendance_server.domain.usage.estimates import (
    FIRST_ANSWER_TOKENS,
    LEAST_ANSWER_TOKENS,
    LEAST_BYTES_PER_TOKEN,
    MEDIA_TOKENS,
    MESSAGE_TOKENS,
    MOST_ANSWER_TOKENS,
    MOST_BYTES_PER_TOKEN,
    Estimates,
)


def prompt(size: int, *, images: int = 0) -> pb.CompletionRequest:
    """A request of one message with so many bytes of text."""
    parts = [pb.Part(text=pb.Text(text="x" * size))]
    parts += [pb.Part(image=pb.Image()) for _ in range(images)]
    return pb.CompletionRequest(messages=[pb.Message(parts=parts)])


def taught(*pairs: tuple[int, int, int]) -> Estimates:
    """Estimates that saw prompts of so many bytes counted as so many tokens, and answers."""
    estimates = Estimates()
    for size, given_tokens, answer in pairs:
        seen = estimates.prompt("a", prompt(size))
        estimates.settled("a", seen, Counts(given_tokens, answer), estimated=False)
    return estimates


@pytest.mark.parametrize("ratio", [2.0, 3.3, 6.0])
def test_ratio_comes_within_a_twentieth_in_a_hundred_calls(ratio: float) -> None:
    """Whatever language is spoken to a model."""
    size = 8_000
    counted = int(size / ratio)
    estimates = taught(*[(size, counted + MESSAGE_TOKENS, 100)] * 120)
    assert estimates.prompt("a", prompt(size)).tokens == pytest.approx(counted, rel=0.05)
    # Of another model nothing was learnt.
    assert estimates.prompt("b", prompt(size)).tokens == size // 4 + MESSAGE_TOKENS


@given(
    st.lists(st.tuples(st.integers(0, 5_000), st.integers(0, MOST_TOKENS), st.integers(0, MOST_TOKENS)), max_size=40)
)
def test_learning_is_bounded(pairs: list[tuple[int, int, int]]) -> None:
    """Absurd counts make no prompt look like nothing, or like more than a token a byte; nor an answer endless."""
    estimates = taught(*pairs)
    tokens = estimates.prompt("a", prompt(4_000)).tokens
    assert 4_000 / MOST_BYTES_PER_TOKEN <= tokens <= 4_000 / LEAST_BYTES_PER_TOKEN + MESSAGE_TOKENS
    assert 1 <= estimates.answer("a", None) <= MOST_ANSWER_TOKENS
    assert estimates.answer("a", 5) <= 5
    assert estimates.delivered("a", 0) == 0
    assert 0 < estimates.delivered("a", 1_000) <= 1_000


def test_estimates_and_small_prompts_teach_nothing() -> None:
    """The gateway does not learn from itself, nor a ratio from prompts that are mostly wrapping."""
    estimates = Estimates()
    seen = estimates.prompt("a", prompt(4_000))
    estimates.settled("a", seen, Counts(4_000, 9_000), estimated=True)
    assert estimates.answer("a", None) == FIRST_ANSWER_TOKENS
    assert estimates.prompt("a", prompt(4_000)) == seen
    tiny = estimates.prompt("a", prompt(10))
    estimates.settled("a", tiny, Counts(5_000, 10), estimated=False)
    assert estimates.prompt("a", prompt(4_000)) == seen


def test_media_count_for_themselves_and_teach_no_ratio() -> None:
    """A picture is no text."""
    estimates = Estimates()
    seen = estimates.prompt("a", prompt(400, images=2))
    assert seen.tokens == 100 + MESSAGE_TOKENS + 2 * MEDIA_TOKENS
    estimates.settled("a", seen, Counts(9_000, 10), estimated=False)
    assert estimates.prompt("a", prompt(400, images=2)) == seen


def test_answer_is_held_as_large_as_it_usually_is() -> None:
    """More where sizes differ; never below a floor, never above the caller's cap."""
    even = taught(*[(1_000, 250, 300)] * 60)
    uneven = taught(*[(1_000, 250, 100), (1_000, 250, 500)] * 30)
    assert 300 <= even.answer("a", None) < 330
    assert uneven.answer("a", None) > 500
    assert taught(*[(1_000, 250, 1)] * 20).answer("a", None) == LEAST_ANSWER_TOKENS
    assert even.answer("a", 100) == 100


def test_models_are_forgotten_rather_than_kept_without_end() -> None:
    """The least recently used first."""
    estimates = Estimates()
    seen = estimates.prompt("m", prompt(4_000))
    for number in range(10_001):
        estimates.settled(f"m{number}", seen, Counts(4_000, 77), estimated=False)
    assert estimates.answer("m0", None) == FIRST_ANSWER_TOKENS
    assert estimates.answer("m1", None) != FIRST_ANSWER_TOKENS


def test_tokenizer_at_hand_is_exact_and_stays_out_of_media() -> None:
    """Where it cannot tell within its bound of time, the ratio does."""

    class Tokenizer:
        def count(self, model: str, request: pb.CompletionRequest, size: int) -> int | None:
            return 7 if size < 100 else None

    estimates = Estimates(Tokenizer())
    assert estimates.prompt("a", prompt(50))[::4] == (7, True)
    assert not estimates.prompt("a", prompt(500)).exact
    assert not estimates.prompt("a", prompt(50, images=1)).exact
