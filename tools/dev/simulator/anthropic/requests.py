"""Reads Messages requests into an Ask; strict where the real API is, so that a gateway cannot do without."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable, Mapping
from typing import Any

from dev.simulator.plan import Plan
from dev.simulator.replies import Ask, Tool, prompt_tokens_of

_TOOL_ID = re.compile(r"[a-zA-Z0-9_-]+")
_ROLES = frozenset({"user", "assistant", "system"})


class RequestError(ValueError):
    """A body that the API would not accept."""


def signature_of(thinking: str) -> str:
    """The signature of a thinking block; a block that comes back must have it."""
    return f"sig_{zlib.crc32(thinking.encode()):08x}"


def read_messages(document: Mapping[str, Any], plan: Plan) -> Ask:
    """Reads the body of POST /v1/messages; raises RequestError for what the API would refuse."""
    cap = document.get("max_tokens")
    if not isinstance(cap, int) or isinstance(cap, bool) or cap < 1:
        raise RequestError("max_tokens: Field required")
    messages = document.get("messages")
    if not isinstance(messages, list) or not messages:
        raise RequestError("messages: at least one message is required")
    texts = [_text_of(message, f"messages.{at}") for at, message in enumerate(messages)]
    _check_results(messages)
    thinking = document.get("thinking") or {}
    budget = thinking.get("budget_tokens")
    if thinking.get("type") == "enabled" and (not isinstance(budget, int) or not 1024 <= budget < cap):
        raise RequestError("thinking.budget_tokens: `max_tokens` must be greater than `thinking.budget_tokens`")
    system = _content_text(document.get("system") or "", "system")
    users = [text for message, text in zip(messages, texts, strict=True) if message["role"] == "user"]
    output_format = (document.get("output_config") or {}).get("format") or {}
    return Ask(
        plan=plan,
        stream=bool(document.get("stream")),
        include_usage=True,
        prompt_tokens=prompt_tokens_of(system) + sum(map(prompt_tokens_of, texts)),
        max_tokens=cap,
        last_user_text=users[-1] if users else "",
        tools=tuple(_tools(document)),
        may_call_tools=not _has_results(messages),
        json_schema=output_format.get("schema"),
    )


def _text_of(message: Any, path: str) -> str:
    if not isinstance(message, dict) or message.get("role") not in _ROLES:
        raise RequestError(f"{path}.role: Input should be 'user', 'assistant' or 'system'")
    return _content_text(message.get("content"), f"{path}.content")


def _content_text(content: Any, path: str) -> str:
    if isinstance(content, str):
        return content
    if not isinstance(content, list) or not all(isinstance(block, dict) for block in content):
        raise RequestError(f"{path}: Input should be a valid string or list")
    texts = []
    for at, block in enumerate(content):
        _check_block(block, f"{path}.{at}")
        if block["type"] == "text":
            texts.append(str(block.get("text", "")))
    return "\n".join(texts)


def _check_block(block: Mapping[str, Any], path: str) -> None:
    kind = block.get("type")
    if not isinstance(kind, str):
        raise RequestError(f"{path}.type: Field required")
    if kind == "text" and not block.get("text"):
        raise RequestError(f"{path}.text: text content blocks must be non-empty")
    if kind == "tool_use" and not (_TOOL_ID.fullmatch(str(block.get("id"))) and isinstance(block.get("input"), dict)):
        raise RequestError(f"{path}.tool_use: Input should be a valid dictionary, and its id match the pattern")
    if kind == "thinking" and block.get("signature") != signature_of(str(block.get("thinking"))):
        raise RequestError(f"{path}: Invalid `signature` in `thinking` block")


def _check_results(messages: list[dict[str, Any]]) -> None:
    """Every call must be answered at the beginning of the next turn, and nothing else may be."""
    for at, message in enumerate(messages):
        asked = _ids(messages[at - 1], "tool_use", "id") if at else []
        answered = _ids(message, "tool_result", "tool_use_id")
        if message["role"] != "system" and sorted(asked) != sorted(answered):
            raise RequestError(f"messages.{at}: `tool_use` ids must have `tool_result` blocks immediately after")
        kinds = [block["type"] == "tool_result" for block in _blocks(message)]
        if kinds != sorted(kinds, reverse=True):
            raise RequestError(f"messages.{at}: `tool_result` blocks must come first")


def _has_results(messages: list[dict[str, Any]]) -> bool:
    """Whether the last turn of the user holds results."""
    users = [message for message in messages if message["role"] == "user"]
    return bool(users and _ids(users[-1], "tool_result", "tool_use_id"))


def _ids(message: Mapping[str, Any], kind: str, field: str) -> list[str]:
    return [str(block.get(field)) for block in _blocks(message) if block["type"] == kind]


def _blocks(message: Mapping[str, Any]) -> list[dict[str, Any]]:
    content = message["content"]
    return content if isinstance(content, list) else []


def _tools(document: Mapping[str, Any]) -> Iterable[Tool]:
    """The tools that may be called: none, the one that the choice names, or all; the upstream's own are not."""
    choice = document.get("tool_choice") or {}
    if choice.get("type") == "none":
        return
    for at, tool in enumerate(document.get("tools") or ()):
        if not isinstance(tool, dict) or not isinstance(tool.get("name"), str):
            raise RequestError(f"tools.{at}.name: Field required")
        if tool.get("type") not in (None, "custom"):
            continue
        if not isinstance(tool.get("input_schema"), dict):
            raise RequestError(f"tools.{at}.input_schema: Field required")
        if choice.get("type") != "tool" or choice.get("name") == tool["name"]:
            yield Tool(tool["name"], tool["input_schema"])
