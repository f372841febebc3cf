"""The fast way of reading an answer is only faster."""

from typing import Any

import orjson
import pytest

from tokendance.gateway.v1 import completion_pb2 as pb
from tokendance_server.providers.openai.answer import read_answer
from tokendance_server.providers.openai.plain_answer import read_plain

REQUEST = pb.CompletionRequest()
USAGE = {"prompt_tokens": 5, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 2}}


def body(message: dict[str, Any] | None = None, choice: dict[str, Any] | None = None, **fields: Any) -> bytes:
    """A plain answer, but for what is given."""
    plain = {"role": "assistant", "content": "Grüße"} | (message or {})
    told = {"index": 0, "message": plain, "logprobs": None, "finish_reason": "stop"} | (choice or {})
    return orjson.dumps({"id": "a", "model": "m", "created": 7, "choices": [told], "usage": USAGE} | fields)


@pytest.mark.parametrize(
    "answer",
    [
        body(),
        body({"refusal": None, "tool_calls": [], "annotations": [], "audio": None}),
        body(choice={"finish_reason": "length", "index": 3, "stop_reason": None}),
        body(id=None, model=None, created=None, service_tier="flex", system_fingerprint="fp"),
        body(usage={"prompt_tokens": -1}, unknown=1, prompt_filter_results=[1]),
    ],
)
def test_a_plain_answer_is_read_the_same_both_ways(answer: bytes) -> None:
    """Field by field."""
    plain = read_plain(answer, REQUEST)
    assert plain is not None
    assert plain == read_answer(answer, REQUEST, lambda: "minted")


@pytest.mark.parametrize(
    "answer",
    [
        body({"content": ""}),
        body({"content": None}),
        body({"content": [{"type": "text", "text": "a"}]}),
        body({"reasoning_content": "a"}),
        body({"tool_calls": [{"id": "1", "function": {"name": "f"}}]}),
        body({"annotations": [{"type": "url_citation"}]}),
        body({"images": []}),
        body(choice={"finish_reason": "tired"}),
        body(choice={"finish_reason": None}),
        body(choice={"stop_reason": "x"}),
        body(choice={"index": -1}),
        body(choice={"content_filter_results": {}}),
        body(choice={"logprobs": {"content": []}}),
        body(choices=[]),
        body(usage=None),
        body(usage={}),
        body(error={"message": "x"}),
        body(x_groq={"error": "x"}),
        body(object="error"),
        body(type="error"),
        body(metadata={"a": "b"}),
        body(created=-1),
        b"{",
        b"\xff",
    ],
)
def test_whatever_else_is_left_to_the_full_way(answer: bytes) -> None:
    """Nothing is guessed here."""
    assert read_plain(answer, REQUEST) is None
