"""Where fuzzing begins: one good input of each kind, and the words that inputs are made of."""

from __future__ import annotations

import json

from tests.wire import fidelity_requests, test_fidelity_answers

from tokendance.gateway.v1 import completion_pb2 as pb
from tokendance.gateway.v1 import completions_service_pb2

_TOOL = {"type": "function", "function": {"name": "a", "parameters": {"type": "object"}}}
_CHUNK = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
_CALL = {"id": "call_1", "type": "function", "function": {"name": "a", "arguments": "{}"}}

CHAT = {
    "model": "m",
    "messages": [
        {"role": "system", "content": "s"},
        {"role": "user", "content": [{"type": "text", "text": "t"}, {"type": "image_url", "image_url": {"url": "https://a/b"}}]},
        {"role": "assistant", "content": None, "tool_calls": [_CALL]},
        {"role": "tool", "tool_call_id": "call_1", "content": "r"},
    ],
    "tools": [_TOOL],
    "tool_choice": "auto",
    "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {}}},
    "stream": True,
    "stream_options": {"include_usage": True},
    "temperature": 0.5,
    "max_tokens": 10,
    "stop": ["a"],
    "logit_bias": {"1": 2},
    "metadata": {"a": "b"},
}  # fmt: skip
COMPLETION = {"model": "m", "prompt": "p", "max_tokens": 5, "echo": True, "logprobs": 1, "stop": "x"}
EMBEDDINGS = {"model": "m", "input": ["a", "b"], "encoding_format": "base64", "dimensions": 8}
RESPONSES = fidelity_requests.RESPONSES
RESPONSE = test_fidelity_answers.ANSWER
RESPONSE_EVENTS = test_fidelity_answers.events_of(RESPONSE)
ANSWER = {
    **_CHUNK,
    "choices": [
        {"index": 0, "message": {"role": "assistant", "content": "c", "tool_calls": [_CALL]}, "finish_reason": "stop"}
    ],
    "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3},
}  # fmt: skip
_DELTAS = (
    {**_CHUNK, "choices": [{"index": 0, "delta": {"role": "assistant", "content": "c"}, "finish_reason": None}]},
    {**_CHUNK, "choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, **_CALL}]}, "finish_reason": None}]},
    {**_CHUNK, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
    {**_CHUNK, "choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}},
)
STREAM = b"".join(b"data: " + json.dumps(delta).encode() + b"\n\n" for delta in _DELTAS) + b"data: [DONE]\n\n"
EVENTS = b"\xef\xbb\xbf: c\n\nevent: error\r\ndata: a\rdata:b\n\nid: 1\nretry: 2\ndata\n\n" + STREAM


def _message() -> bytes:
    asked = pb.CompletionRequest(model="m", max_output_tokens=5)
    asked.messages.add(role=pb.ROLE_USER).parts.add().text.text = "t"
    asked.tools.add(kind=pb.TOOL_KIND_FUNCTION, name="a", parameters_json="{}")
    return completions_service_pb2.CreateCompletionRequest(completion=asked).SerializeToString()


SEEDS: dict[str, bytes] = {
    "read_events": EVENTS,
    "read_stream": STREAM,
    "read_answer": json.dumps(ANSWER).encode(),
    "read_chat": json.dumps(CHAT).encode(),
    "read_responses": json.dumps(RESPONSES).encode(),
    "read_responses_stream": b"".join(b"data: " + json.dumps(one).encode() + b"\n\n" for one in RESPONSE_EVENTS),
    "read_responses_answer": json.dumps(RESPONSE).encode(),
    "read_completion": json.dumps(COMPLETION).encode(),
    "read_embeddings": json.dumps(EMBEDDINGS).encode(),
    "read_key": b"Bearer tdk_" + b"0" * 43 + b"000000",
    "read_message": _message(),
}
