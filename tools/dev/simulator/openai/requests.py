"""Reads OpenAI requests into an Ask; lenient, for it is the gateway's encoder that must be right."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from dev.simulator.plan import Plan
from dev.simulator.replies import Ask, Tool, prompt_tokens_of

MOST_CHOICES = 128


class RequestError(ValueError):
    """A body that no upstream would accept."""


def read_chat(document: Mapping[str, Any], plan: Plan) -> Ask:
    """Reads the body of POST /v1/chat/completions; raises RequestError without usable messages."""
    messages = document.get("messages")
    if not isinstance(messages, list) or not messages:
        raise RequestError("messages must be a list with at least one message.")
    if not all(isinstance(message, dict) and message.get("role") for message in messages):
        raise RequestError("Each message must be an object with a role.")
    texts = [_text_of(message) for message in messages]
    users = [at for at, message in enumerate(messages) if message["role"] == "user"]
    after = messages[users[-1] + 1 :] if users else messages
    cap = count_of(document, "max_completion_tokens", count_of(document, "max_tokens", None))
    response_format = document.get("response_format") or {}
    return Ask(
        plan=plan,
        stream=bool(document.get("stream")),
        include_usage=_include_usage(document),
        prompt_tokens=sum(map(prompt_tokens_of, texts)),
        max_tokens=cap,
        choices=_choices(document),
        last_user_text=texts[users[-1]] if users else "",
        tools=tuple(_tools(document)),
        may_call_tools=messages[-1]["role"] not in ("tool", "function"),
        results=sum(message["role"] in ("tool", "function") for message in after),
        json_schema=(response_format.get("json_schema") or {}).get("schema"),
    )


def read_completion(document: Mapping[str, Any], plan: Plan, prompt: str | list[int]) -> Ask:
    """Reads the body of POST /v1/completions for one of its prompts."""
    return Ask(
        plan=plan,
        stream=bool(document.get("stream")),
        include_usage=_include_usage(document),
        prompt_tokens=prompt_tokens_of(prompt) if isinstance(prompt, str) else len(prompt),
        max_tokens=count_of(document, "max_tokens", 16),
        choices=_choices(document),
        last_user_text=prompt if isinstance(prompt, str) else "",
    )


def count_of(document: Mapping[str, Any], field: str, default: int | None) -> int | None:
    """A whole number of at least 0; the default where it is absent or null."""
    value = document.get(field)
    if value is None:
        return default
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise RequestError(f"{field} must be a whole number.")
    return value


def texts_or_tokens(value: Any, field: str) -> list[str | list[int]]:
    """Splits a prompt or an embedding's input into its items; one list of numbers is one item."""
    if isinstance(value, str):
        return [value]
    if not isinstance(value, list) or not value:
        raise RequestError(f"{field} must be a text, a list of texts, or lists of token numbers.")
    if all(isinstance(item, int) for item in value):
        return [value]
    return value


def _choices(document: Mapping[str, Any]) -> int:
    choices = count_of(document, "n", 1) or 1
    if choices > MOST_CHOICES:
        raise RequestError(f"n must be at most {MOST_CHOICES}.")
    return choices


def _include_usage(document: Mapping[str, Any]) -> bool:
    return bool((document.get("stream_options") or {}).get("include_usage"))


def _text_of(message: Mapping[str, Any]) -> str:
    content = message.get("content")
    if isinstance(content, str):
        return content
    if content is None:
        return ""
    if not isinstance(content, list) or not all(isinstance(part, dict) for part in content):
        raise RequestError("content must be a text, a list of parts, or null.")
    return "".join(str(part.get("text", "")) for part in content if part.get("type") == "text")


def _tools(document: Mapping[str, Any]) -> Iterable[Tool]:
    """The tools that may be called: none, the one that the choice names, or all."""
    choice = document.get("tool_choice")
    if choice == "none":
        return
    wanted = None
    if isinstance(choice, dict):
        wanted = (choice.get("function") or choice.get("custom") or {}).get("name")
    for tool in document.get("tools") or ():
        if not isinstance(tool, dict):
            raise RequestError("Each tool must be an object.")
        custom = tool.get("type") == "custom"
        spec = tool.get("custom" if custom else "function")
        if not isinstance(spec, dict) or not isinstance(spec.get("name"), str):
            raise RequestError("Each tool must have a function (or be custom) with a name.")
        if wanted is None or spec["name"] == wanted:
            yield Tool(spec["name"], spec.get("parameters"), custom)
