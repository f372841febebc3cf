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
MESSAGES = {
    "model": "m",
    "max_tokens": 10,
    "system": [{"type": "text", "text": "s", "cache_control": {"type": "ephemeral", "ttl": "1h"}}],
    "messages": [
        {"role": "user", "content": [
            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "YQ=="}},
            {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "d"}, "title": "t"},
        ]},
        {"role": "assistant", "content": [
            {"type": "thinking", "thinking": "t", "signature": "s"},
            {"type": "redacted_thinking", "data": "d"},
            {"type": "text", "text": "t", "citations": [{"type": "char_location", "cited_text": "c"}]},
            {"type": "tool_use", "id": "a", "name": "a", "input": {"a": 1}},
        ]},
        {"role": "user", "content": [
            {"type": "tool_result", "tool_use_id": "a", "content": [{"type": "text", "text": "r"}]},
        ]},
    ],
    "tools": [{"name": "a", "input_schema": {"type": "object"}, "strict": True}, {"type": "later", "name": "b"}],
    "tool_choice": {"type": "tool", "name": "a", "disable_parallel_tool_use": True},
    "thinking": {"type": "enabled", "budget_tokens": 5},
    "output_config": {"effort": "high", "format": {"type": "json_schema", "schema": {}}},
    "metadata": {"user_id": "u"},
    "stop_sequences": ["a"],
    "temperature": 0.5,
}  # fmt: skip
MESSAGE = {
    "id": "msg_1", "type": "message", "role": "assistant", "model": "m", "stop_reason": "tool_use",
    "stop_sequence": None,
    "content": [
        {"type": "thinking", "thinking": "t", "signature": "s"},
        {"type": "text", "text": "t", "citations": [{"type": "char_location"}]},
        {"type": "tool_use", "id": "a", "name": "patch", "input": {"input": "i"}},
        {"type": "later", "a": 1},
    ],
    "usage": {
        "input_tokens": 1, "cache_read_input_tokens": 2, "output_tokens": 3,
        "output_tokens_details": {"thinking_tokens": 1},
    },
}  # fmt: skip
MESSAGE_EVENTS = [
    {"type": "message_start", "message": {**MESSAGE, "content": [], "stop_reason": None}},
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "t"}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "citations_delta", "citation": {"type": "c"}}},
    {"type": "content_block_stop", "index": 0},
    {"type": "content_block_start", "index": 1, "content_block": {"type": "thinking", "thinking": "", "later": 1}},
    {"type": "content_block_delta", "index": 1, "delta": {"type": "signature_delta", "signature": "s"}},
    {"type": "content_block_stop", "index": 1},
    {"type": "content_block_start", "index": 2, "content_block": {"type": "tool_use", "id": "a", "name": "patch"}},
    {"type": "content_block_delta", "index": 2, "delta": {"type": "input_json_delta", "partial_json": '{"input":"i"}'}},
    {"type": "content_block_stop", "index": 2},
    {"type": "content_block_start", "index": 3, "content_block": {"type": "later"}},
    {"type": "content_block_stop", "index": 3},
    {"type": "message_delta", "delta": {"stop_reason": "tool_use", "later": 1}, "usage": {"output_tokens": 3}, "b": 1},
    {"type": "message_stop"},
]  # fmt: skip
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
    "read_messages": json.dumps(MESSAGES).encode(),
    "read_messages_stream": b"".join(b"data: " + json.dumps(one).encode() + b"\n\n" for one in MESSAGE_EVENTS),
    "read_messages_answer": json.dumps(MESSAGE).encode(),
    "read_completion": json.dumps(COMPLETION).encode(),
    "read_embeddings": json.dumps(EMBEDDINGS).encode(),
    "read_key": b"Bearer tdk_" + b"0" * 43 + b"000000",
    "read_message": _message(),
}
