"""The words of the status, and the page that explains them."""

from __future__ import annotations

from pathlib import Path

from tokendance.gateway.v1 import status_service_pb2 as pb
from tokendance.status_words import COUNTED, WORDS, State

PAGE = " ".join(Path(__file__).resolve().parents[2].joinpath("docs", "status.md").read_text().split())


def test_page_says_what_the_code_computes_by() -> None:
    """Each word with its threshold and advice, and what counts as failed: the page never drifts."""
    for word in WORDS:
        assert f"| `{word.state}` | {word.meaning} | {word.threshold} | {word.advice} |" in PAGE
    assert COUNTED in PAGE


def test_words_are_those_of_the_api() -> None:
    """One for each state that the API knows, each worse than the one before it."""
    values = pb.ServiceState.DESCRIPTOR.values
    known = {value.name.removeprefix("SERVICE_STATE_").lower() for value in values} - {"unspecified"}
    assert {word.state for word in WORDS} == known == set(State)
    assert [state.severity for state in State] == list(range(len(State)))
