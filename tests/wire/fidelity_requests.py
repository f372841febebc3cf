"""One request of each dialect that uses all of it, and the form in which two requests that mean the same are equal."""

from __future__ import annotations

from typing import Any

PIXEL = "data:image/png;base64,iVBORw0KGgo="
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}

CHAT: dict[str, Any] = {
    "model": "m",
    "messages": [
        {"role": "developer", "content": "Be brief."},
        {"role": "system", "content": [{"type": "text", "text": "And kind."}]},
        {
            "role": "user",
            "name": "someone",
            "content": [
                {"type": "text", "text": "Look."},
                {"type": "image_url", "image_url": {"url": PIXEL, "detail": "low"}},
                {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}},
                {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
                {"type": "file", "file": {"file_data": "data:application/pdf;base64,AAAA", "filename": "a.pdf"}},
                {"type": "video_url", "video_url": {"url": "https://example.com/a.mp4"}},
            ],
        },
        {
            "role": "assistant",
            "content": "Well.",
            "reasoning_content": "They ask for it.",
            "tool_calls": [
                {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "A"}'}},
                {"id": "call_2", "type": "custom", "custom": {"name": "note", "input": "plain"}},
            ],
        },
        {"role": "tool", "tool_call_id": "call_1", "content": "Sun."},
        {"role": "tool", "tool_call_id": "call_2", "content": [{"type": "text", "text": "Noted."}]},
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}], "refusal": "No more."},
    ],
    "tools": [
        {"type": "function", "function": {"name": "weather", "description": "d", "parameters": SCHEMA, "strict": True}},
        {"type": "custom", "custom": {"name": "note", "description": "n", "format": {"type": "text"}}},
        {"type": "browser", "browser": {"depth": 3}},
    ],
    "tool_choice": "auto",
    "parallel_tool_calls": False,
    "response_format": {
        "type": "json_schema",
        "json_schema": {"name": "answer", "description": "a", "schema": SCHEMA, "strict": True},
    },
    "max_completion_tokens": 99,
    "n": 1,
    "temperature": 0.5,
    "top_p": 0.9,
    "frequency_penalty": 0.1,
    "presence_penalty": 0.2,
    "seed": 2**60,
    "stop": ["END"],
    "logit_bias": {"17": 5},
    "logprobs": True,
    "top_logprobs": 3,
    "reasoning_effort": "low",
    "verbosity": "low",
    "modalities": ["text", "audio"],
    "audio": {"voice": "alloy", "format": "wav"},
    "user": "u",
    "service_tier": "flex",
    "prompt_cache_key": "k",
    "safety_identifier": "s",
    "metadata": {"a": "b"},
    "store": True,
    "prediction": {"type": "content", "content": "Well."},
    "web_search_options": {"search_context_size": "low", "user_location": {"type": "approximate"}},
    "stream": True,
    "stream_options": {"include_usage": True},
}


def normal_chat(request: dict[str, Any]) -> dict[str, Any]:
    """Usage is always asked for; one plain text may be a text or a list of one."""
    if request.get("stream"):
        request["stream_options"] = {**request.get("stream_options", {}), "include_usage": True}
    for message in request["messages"]:
        message["content"] = _content(message.get("content"), ("text",))
        parts = message["content"] if isinstance(message["content"], list) else []
        said = [part["refusal"] for part in parts if part.get("type") == "refusal" and part.keys() == _REFUSAL]
        if said:
            # A refusal may be a part or a field: the gateway has one place for both.
            message["refusal"] = "".join(said) + message.get("refusal", "")
            message["content"] = [part for part in parts if part.get("type") != "refusal"] or None
    return request


RESPONSES: dict[str, Any] = {
    "model": "m",
    "instructions": "Be brief.",
    "input": [
        {"role": "developer", "content": "And kind."},
        {"type": "message", "role": "system", "content": [{"type": "input_text", "text": "Always."}], "id": "msg_0"},
        {
            "type": "additional_tools",
            "role": "developer",
            "tools": [
                {"type": "namespace", "name": "shell", "description": "s", "tools": [{"type": "custom", "name": "run"}]}
            ],
        },
        {
            "type": "message",
            "role": "user",
            "status": "completed",
            "content": [
                {"type": "input_text", "text": "Look.", "prompt_cache_breakpoint": {"mode": "explicit", "ttl": "30m"}},
                {"type": "input_image", "image_url": PIXEL, "detail": "low"},
                {"type": "input_image", "file_id": "file_1"},
                {"type": "input_file", "file_data": "data:application/pdf;base64,AAAA", "filename": "a.pdf"},
                {"type": "input_file", "file_url": "https://example.com/a.pdf"},
                {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
                {"type": "input_video", "video_url": "https://example.com/a.mp4"},
            ],
        },
        {
            "type": "reasoning",
            "id": "rs_1",
            "summary": [{"type": "summary_text", "text": "They ask."}, {"type": "summary_text", "text": "I look."}],
            "content": [{"type": "reasoning_text", "text": "Hm."}],
            "encrypted_content": "sealed",
        },
        {
            "type": "message",
            "role": "assistant",
            "id": "msg_1",
            "status": "completed",
            "phase": "commentary",
            "content": [
                {
                    "type": "output_text",
                    "text": "Well.",
                    "annotations": [{"type": "url_citation", "url": "https://example.com/", "title": "t"}],
                },
                {"type": "refusal", "refusal": "Not that."},
            ],
        },
        {
            "type": "function_call",
            "id": "fc_1",
            "call_id": "call_1",
            "name": "weather",
            "arguments": '{"city": "A"}',
            "status": "completed",
        },
        {"type": "message", "role": "assistant", "phase": "commentary", "content": "One more."},
        {"type": "custom_tool_call", "id": "ctc_1", "call_id": "call_2", "name": "note", "input": "plain"},
        {"type": "function_call", "call_id": "call_3", "name": "turn", "namespace": "wheel", "arguments": "{}"},
        {"type": "web_search_call", "id": "ws_1", "status": "completed", "action": {"type": "search", "query": "q"}},
        {"type": "function_call_output", "call_id": "call_1", "output": "Sun.", "id": "fco_1", "status": "completed"},
        {
            "type": "custom_tool_call_output",
            "call_id": "call_2",
            "output": [{"type": "input_text", "text": "Noted."}, {"type": "input_image", "image_url": PIXEL}],
        },
        {"type": "function_call_output", "call_id": "call_3", "name": "turn", "output": ""},
        {"type": "shell_call_output", "call_id": "call_4", "output": [{"stdout": "x"}]},
        {"type": "compaction", "id": "cmp_1", "encrypted_content": "sealed"},
        {"role": "user", "content": "Go on."},
    ],
    "tools": [
        {"type": "function", "name": "weather", "description": "d", "parameters": SCHEMA, "strict": True},
        {"type": "custom", "name": "note", "format": {"type": "text"}},
        {
            "type": "namespace",
            "name": "wheel",
            "description": "Turns.",
            "tools": [{"type": "function", "name": "turn", "parameters": SCHEMA}, {"type": "custom", "name": "stop"}],
        },
        {"type": "namespace", "name": "other", "description": "Same.", "tools": [{"type": "function", "name": "turn"}]},
        {"type": "web_search", "filters": {"allowed_domains": ["example.com"]}},
        {"type": "mcp", "server_label": "l", "server_url": "https://example.com/mcp"},
    ],
    "tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "weather"}]},
    "parallel_tool_calls": True,
    "max_tool_calls": 3,
    "max_output_tokens": 99,
    "temperature": 0.5,
    "top_p": 0.9,
    "presence_penalty": 0.1,
    "frequency_penalty": 0.2,
    "top_logprobs": 3,
    "reasoning": {"effort": "low", "summary": "auto", "context": "all_turns"},
    "text": {
        "format": {"type": "json_schema", "name": "answer", "description": "a", "schema": SCHEMA, "strict": True},
        "verbosity": "low",
    },
    "include": ["reasoning.encrypted_content", "message.output_text.logprobs", "web_search_call.results"],
    "truncation": "auto",
    "metadata": {"a": "b"},
    "prompt_cache_key": "k",
    "prompt_cache_retention": "24h",
    "safety_identifier": "s",
    "user": "u",
    "service_tier": "flex",
    "context_management": [{"type": "compaction", "compact_threshold": 1000}],
    "client_metadata": {"x": "y"},
    "store": False,
    "stream": True,
    "stream_options": {"include_obfuscation": False},
}


def normal_responses(request: dict[str, Any]) -> dict[str, Any]:
    """Nothing is stored, nothing padded; messages may leave out their type, and one plain text may be a list of one."""
    request["store"] = False
    options = request.get("stream_options") or {}
    options.pop("include_obfuscation", None)
    if not options:
        request.pop("stream_options", None)
    for item in request["input"]:
        if "role" in item:
            item.setdefault("type", "message")
        for name in ("content", "output"):
            if item["type"] in ("message", "function_call_output", "custom_tool_call_output") and name in item:
                item[name] = _content(item[name], ("input_text", "output_text"))
    return request


_REFUSAL = {"type", "refusal"}


def _content(content: Any, texts: tuple[str, ...]) -> Any:
    """Content in its shortest form, without the empty lists that answers have."""
    if not isinstance(content, list):
        return content
    for part in content:
        for name in ("annotations", "logprobs"):
            if part.get(name) == []:
                del part[name]
    plain = len(content) == 1 and content[0].keys() == {"type", "text"} and content[0]["type"] in texts
    return content[0]["text"] if plain else content
