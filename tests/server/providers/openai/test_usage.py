"""Counts of servers: believed, corrected, or estimated."""

from typing import Any

import pytest

from tokendance.gateway.v1 import completion_pb2 as pb
from tokendance_server.providers.openai.usage import find_usage, read_usage

REQUEST = pb.CompletionRequest(
    messages=[pb.Message(role=pb.ROLE_USER, parts=[pb.Part(text=pb.Text(text="Sixteen letters."))])]
)


def usage(counts: dict[str, Any] | None) -> pb.Usage:
    """The usage of an answer of twelve bytes."""
    return read_usage(counts, REQUEST, 12)


def test_good_counts_are_the_providers() -> None:
    """An explicit zero among them."""
    told = usage({"prompt_tokens": 0, "completion_tokens": 0})
    assert (told.input_tokens, told.output_tokens, told.source) == (0, 0, pb.USAGE_SOURCE_PROVIDER)
    whole = usage({"prompt_tokens": 5.0, "completion_tokens": 6})
    assert (whole.input_tokens, whole.output_tokens, whole.source) == (5, 6, pb.USAGE_SOURCE_PROVIDER)


@pytest.mark.parametrize("bad", [-1, 1.5, "12", None, True, 2**63, 1e30, [], {}])
def test_bad_counts_are_estimated(bad: Any) -> None:
    """Each by itself: a good one beside it is kept; none is ever negative."""
    told = usage({"prompt_tokens": bad, "completion_tokens": 9})
    assert (told.input_tokens, told.output_tokens, told.source) == (4, 9, pb.USAGE_SOURCE_ESTIMATED)
    told = usage({"prompt_tokens": 9, "completion_tokens": bad})
    assert (told.input_tokens, told.output_tokens, told.source) == (9, 3, pb.USAGE_SOURCE_ESTIMATED)


def test_no_counts_are_estimated() -> None:
    """From the texts of both sides."""
    assert usage(None) == usage({}) == pb.Usage(input_tokens=4, output_tokens=3, source=pb.USAGE_SOURCE_ESTIMATED)


def test_a_total_gives_away_what_is_missing() -> None:
    """Unless it is less than its part."""
    assert usage({"prompt_tokens": 5, "total_tokens": 12}).output_tokens == 7
    assert usage({"prompt_tokens": 5, "total_tokens": 2}).source == pb.USAGE_SOURCE_ESTIMATED


def test_parts_never_exceed_their_whole() -> None:
    """Cached input is part of the input, reasoning part of the output."""
    told = usage(
        {
            "prompt_tokens": 5,
            "completion_tokens": 6,
            "total_tokens": 11,
            "prompt_tokens_details": {"cached_tokens": 50, "text_tokens": -3},
            "completion_tokens_details": {"reasoning_tokens": 60, "audio_tokens": "many"},
        }
    )
    assert (told.cached_input_tokens, told.reasoning_tokens, told.audio_output_tokens) == (5, 6, 0)
    assert told.extra_json == ""


@pytest.mark.parametrize(
    "document",
    [
        {"usage": {"prompt_tokens": 1}},
        {"usage": None, "choices": [{"usage": {"prompt_tokens": 1}}]},
        {"choices": [], "x_groq": {"usage": {"prompt_tokens": 1}}},
    ],
)
def test_counts_are_found_wherever_servers_put_them(document: dict[str, Any]) -> None:
    """At the top, in the first choice, or in a field of the server's own."""
    assert find_usage(document) == {"prompt_tokens": 1}


@pytest.mark.parametrize("document", [{}, {"usage": 5}, {"choices": "x"}, {"choices": [7]}, {"x_groq": []}])
def test_nonsense_holds_no_counts(document: dict[str, Any]) -> None:
    """And breaks nothing."""
    assert find_usage(document) is None
