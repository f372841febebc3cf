"""Reads Gemini requests into an Ask; lenient but for what the newest models insist on: signatures of calls."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from typing import Any

from dev.simulator.openai.requests import RequestError, count_of
from dev.simulator.plan import Plan
from dev.simulator.replies import Ask, Tool, prompt_tokens_of

SKIP = "skip_thought_signature_validator"


def signature_of(name: str) -> str:
    """The signature of a call of the tool of this name."""
    return base64.b64encode(f"signed by the simulator: {name}".encode()).decode()


def read_content(document: Mapping[str, Any], plan: Plan, *, stream: bool) -> Ask:
    """Reads the body of generateContent; raises RequestError where a real server would refuse it."""
    contents = document.get("contents")
    if not isinstance(contents, list) or not contents:
        raise RequestError("contents is not specified.")
    for content in contents:
        if content.get("role") not in ("user", "model") or not content.get("parts"):
            raise RequestError("Please use a valid role (user, model) and at least one part.")
    _check_turns(contents)
    config = document.get("generationConfig") or {}
    instructions = (document.get("systemInstruction") or {}).get("parts") or []
    texts = [_text_of(content["parts"]) for content in contents]
    users = [text for content, text in zip(contents, texts, strict=True) if content["role"] == "user" and text]
    last = contents[-1]
    return Ask(
        plan=plan,
        stream=stream,
        include_usage=True,
        prompt_tokens=sum(map(prompt_tokens_of, [_text_of(instructions), *texts])),
        max_tokens=count_of(config, "maxOutputTokens", None),
        choices=count_of(config, "candidateCount", 1) or 1,
        last_user_text=users[-1] if users else "",
        tools=tuple(_tools(document)),
        may_call_tools=not any("functionResponse" in part for part in last["parts"]),
        json_schema=config.get("responseJsonSchema"),
    )


def _check_turns(contents: list[dict[str, Any]]) -> None:
    """Each result must follow its call by name, and the first call of each of the current turn's steps be signed."""
    begins = max(
        (at for at, one in enumerate(contents) if one["role"] == "user" and not _named(one, "functionResponse")),
        default=0,
    )
    for at, content in enumerate(contents):
        results = _named(content, "functionResponse")
        calls = _named(contents[at - 1], "functionCall") if at else []
        if results and sorted(results) != sorted(calls):
            raise RequestError(
                "Please ensure that the number of function response parts is equal to the number of function call "
                "parts of the function call turn."
            )
        if content["role"] == "model" and at > begins:
            _check_signature(content)


def _check_signature(content: dict[str, Any]) -> None:
    first = next((part for part in content["parts"] if "functionCall" in part), None)
    if first is None:
        return
    name, signature = first["functionCall"]["name"], first.get("thoughtSignature")
    if signature is None:
        raise RequestError(f"Function call is missing a thought_signature in functionCall parts: {name}.")
    if signature not in (SKIP, signature_of(name)):
        raise RequestError("Corrupted thought signature.")


def _named(content: Mapping[str, Any], kind: str) -> list[str]:
    return [part[kind]["name"] for part in content["parts"] if kind in part]


def _text_of(parts: list[dict[str, Any]]) -> str:
    if not all(isinstance(part, dict) for part in parts):
        raise RequestError("parts must be objects.")
    return "".join(str(part.get("text", "")) for part in parts)


def _tools(document: Mapping[str, Any]) -> Iterator[Tool]:
    """The functions that may be called: none, those that the choice names, or all."""
    choice = (document.get("toolConfig") or {}).get("functionCallingConfig") or {}
    if choice.get("mode") == "NONE":
        return
    allowed = choice.get("allowedFunctionNames")
    for tool in document.get("tools") or ():
        for function in tool.get("functionDeclarations") or ():
            if not allowed or function["name"] in allowed:
                yield Tool(function["name"], function.get("parametersJsonSchema") or {"type": "object"})
