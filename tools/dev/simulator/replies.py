"""Decides what a simulated model says, before any dialect writes it down; does no I/O."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from itertools import cycle, islice
from typing import Any

import orjson

from .plan import Plan
from .schema import example_of

SENTENCE = "The quick brown fox jumps over the lazy dog."
LINE_SEPARATORS = "One\u2028two\u2029three\u0085four."
MULTIBYTE_SENTENCE = "Grüße, 世界! 🌍 naïve café — ünïcödé 🚀 done."
REASONING = "Let me think about that for a moment."
FILLER_MARK = "@@FILLER@@"
"""Stands in the text where a fault puts its megabytes."""

MOST_TOKENS = 1_000_000
_CALL = re.compile(r"\bCALL ([A-Za-z0-9_-]+) (\{.*\})")
_PIECE = re.compile(r"\s*\S+|\s+")


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool of the request; `custom` ones take free text in place of JSON arguments."""

    name: str
    schema: Any
    custom: bool = False
    namespace: str = ""


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call the model makes; `arguments` is JSON text, or free text for a custom tool."""

    id: str
    name: str
    arguments: str
    custom: bool = False
    namespace: str = ""


@dataclass(frozen=True, slots=True)
class Ask:
    """What a request asks for, in no dialect's words.

    `max_tokens` is None where the request sets no cap; `results` counts the results of calls since the last user text.
    """

    plan: Plan
    stream: bool = False
    include_usage: bool = False
    prompt_tokens: int = 0
    max_tokens: int | None = None
    choices: int = 1
    last_user_text: str = ""
    tools: tuple[Tool, ...] = ()
    may_call_tools: bool = False
    results: int = 0
    json_schema: Any = None


@dataclass(frozen=True, slots=True)
class Reply:
    """What the model says in one choice: text and thinking in tokens, calls, and why it stopped."""

    pieces: tuple[str, ...]
    finish: str
    reasoning: tuple[str, ...] = ()
    calls: tuple[ToolCall, ...] = field(default=())

    @property
    def text(self) -> str:
        """The whole text."""
        return "".join(self.pieces)

    @property
    def reasoning_tokens(self) -> int:
        """Tokens of the thinking; they are part of `tokens`."""
        return len(self.reasoning)

    @property
    def tokens(self) -> int:
        """All tokens of this choice."""
        calls = sum(1 + len(argument_pieces(call.arguments)) for call in self.calls)
        return len(self.pieces) + len(self.reasoning) + calls


def prompt_tokens_of(text: str) -> int:
    """Prompt tokens of a text: one for every four characters begun."""
    return (len(text) + 3) // 4


def argument_pieces(arguments: str) -> tuple[str, ...]:
    """The pieces in which arguments (and JSON answers) are streamed: eight characters each."""
    return tuple(arguments[at : at + 8] for at in range(0, len(arguments), 8))


def reply_to(ask: Ask) -> Reply:
    """The reply of the plan's persona, cut at the cap of the request unless the fault is to ignore it."""
    plan = ask.plan
    if plan.base.startswith("sim-tools") and ask.may_call_tools and ask.tools:
        return Reply((), "tool_calls", _reasoning(plan), _calls(ask))
    if plan.base == "sim-agent" and (call := _next_call(ask)) is not None:
        return Reply((), "tool_calls", _reasoning(plan), (call,))
    pieces, finish = _text(ask), "stop"
    if plan.fault == "more-tokens":
        wanted = (ask.max_tokens or len(pieces)) + plan.count("extra")
        pieces = _sentence_of(min(wanted, MOST_TOKENS))
    elif ask.max_tokens is not None and ask.max_tokens < len(pieces):
        pieces, finish = pieces[: ask.max_tokens], "length"
    return Reply(pieces, finish, _reasoning(plan))


def _next_call(ask: Ask) -> ToolCall | None:
    """The next of the calls that the last user message spells out, one for each result that there is already.

    A custom tool's input is the text under `input`.
    """
    told = _CALL.findall(ask.last_user_text)
    step = ask.results or (0 if ask.may_call_tools else len(told))
    if step >= len(told):
        return None
    name, arguments = told[step]
    tool = next((tool for tool in ask.tools if tool.name == name), Tool(name, None))
    if tool.custom:
        arguments = orjson.loads(arguments)["input"]
    return ToolCall(f"call_sim_{step}", name, arguments, tool.custom, tool.namespace)


def _text(ask: Ask) -> tuple[str, ...]:
    plan = ask.plan
    if plan.fault in ("huge-line", "gzip-bomb") or (plan.fault == "huge-body" and not ask.stream):
        return (FILLER_MARK,)
    if plan.fault == "split-utf8":
        return tuple(_PIECE.findall(MULTIBYTE_SENTENCE))
    if plan.fault == "framing" and plan.word("form") == "u2028":
        return argument_pieces(LINE_SEPARATORS)
    if plan.base == "sim-agent":
        return ("done",)
    if plan.base == "sim-echo":
        return tuple(_PIECE.findall(ask.last_user_text))
    if plan.base == "sim-json":
        document = example_of(ask.json_schema) if ask.json_schema is not None else {"answer": SENTENCE}
        return argument_pieces(orjson.dumps(document).decode())
    if plan.word("tokens") == "auto":
        return _sentence_of(9)
    return _sentence_of(min(plan.count("tokens"), MOST_TOKENS))


def _sentence_of(tokens: int) -> tuple[str, ...]:
    """The sentence in words, again and again, joined by single spaces; exactly so many tokens."""
    words = list(islice(cycle(SENTENCE.split()), tokens))
    return tuple(words[:1] + [" " + word for word in words[1:]])


def _reasoning(plan: Plan) -> tuple[str, ...]:
    return tuple(_PIECE.findall(REASONING)) if plan.fault == "reasoning" else ()


def _calls(ask: Ask) -> tuple[ToolCall, ...]:
    tools = ask.tools[:1]
    if ask.plan.base == "sim-tools-parallel":
        tools = ask.tools[:2] if len(ask.tools) > 1 else ask.tools[:1] * 2
    return tuple(
        ToolCall(f"call_sim_{index}", tool.name, _arguments(tool), tool.custom, tool.namespace)
        for index, tool in enumerate(tools)
    )


def _arguments(tool: Tool) -> str:
    if tool.custom:
        return SENTENCE
    value = example_of(tool.schema)
    return orjson.dumps(value if isinstance(value, dict) else {}).decode()
