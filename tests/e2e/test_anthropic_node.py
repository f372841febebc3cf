"""The official Anthropic SDK for Node as a stranger's client: one script prints all that it saw."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def test_everything_that_the_sdk_does(run_node_script: Callable[..., Any]) -> None:
    """Tool loops in one message and streamed, thinking sent back, a count, the models, and an error's class."""
    seen = run_node_script("messages.mjs")
    for name, turn in seen["turns"].items():
        calls = [block for block in turn["first"]["content"] if block["type"] == "tool_use"]
        assert turn["first"]["stop_reason"] == "tool_use", name
        assert [call["input"] for call in calls] == [{"city": "example"}] * len(calls)
        assert len(calls) == (2 if "parallel" in name else 1)
        assert turn["second"]["stop_reason"] == "end_turn"
        thinking = [block for block in turn["first"]["content"] if block["type"] == "thinking"]
        assert [bool(block["signature"]) for block in thinking] == [True] * ("reasoning" in name)
    assert seen["events"][0] == "message_start"
    assert seen["events"][-1] == "message_stop"
    assert seen["events"].count("content_block_delta") == 9
    assert seen["counted"]["input_tokens"] > 0
    assert {"claude/sim", "sim", "demo-echo"} <= set(seen["models"])
    assert (seen["failure"]["class"], seen["failure"]["status"]) == ("NotFoundError", 404)
    assert seen["failure"]["body"]["error"]["code"] == "model_not_found"
    assert seen["failure"]["requestId"] == seen["failure"]["body"]["request_id"]
