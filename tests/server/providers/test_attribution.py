"""The line by which an agent tells its vendor whom to bill reaches that vendor, and nobody else."""

from __future__ import annotations

import pytest

from tokendance.gateway.v1 import completion_pb2 as pb
from tokendance_server.providers.attribution import ATTRIBUTION, without_attribution

LINE = f"{ATTRIBUTION} cc_version=2.1.332; cc_entrypoint=cli;"


def asked(*system: str, dialect: pb.Dialect.ValueType = pb.DIALECT_ANTHROPIC_MESSAGES) -> pb.CompletionRequest:
    """Return a request with these texts as its system prompt."""
    messages = [pb.Message(role=pb.ROLE_USER, parts=[pb.Part(text=pb.Text(text="Hi"))])]
    if system:
        parts = [pb.Part(text=pb.Text(text=text)) for text in system]
        messages.insert(0, pb.Message(role=pb.ROLE_SYSTEM, parts=parts))
    return pb.CompletionRequest(model="m", dialect=dialect, messages=messages)


@pytest.mark.parametrize(
    ("system", "left"),
    [((LINE, "Be brief."), ("Be brief.",)), ((LINE,), ()), ((f"{LINE}\nBe brief.",), ("Be brief.",))],
)
def test_the_line_is_taken_out_of_a_copy(system: tuple[str, ...], left: tuple[str, ...]) -> None:
    """What else the system prompt says stays; the caller's request is what it was, for another provider to get."""
    request = asked(*system)
    assert without_attribution(request) == asked(*left)
    assert request == asked(*system)


@pytest.mark.parametrize(
    "request_",
    [
        asked("Be brief."),
        asked(),
        asked(f"Never write {ATTRIBUTION}"),
        asked(LINE, dialect=pb.DIALECT_OPENAI_CHAT),
        pb.CompletionRequest(dialect=pb.DIALECT_ANTHROPIC_MESSAGES),
    ],
)
def test_other_requests_are_not_even_copied(request_: pb.CompletionRequest) -> None:
    """Large prompts pay nothing for it."""
    assert without_attribution(request_) is request_
