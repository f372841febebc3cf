"""The conversation as this API wants it: instructions first, then turns of user and assistant in alternation.

A conversation of this same dialect is written turn by turn as it came.
"""

from __future__ import annotations

from typing import Any

from tokendance.gateway.v1 import completion_pb2 as pb
from tokendance_server.providers import json_text
from tokendance_server.providers.anthropic.content import blocks_of, content_of
from tokendance_server.providers.field_paths import message_path

Json = dict[str, Any]

INSTRUCTING = (pb.ROLE_SYSTEM, pb.ROLE_DEVELOPER)
_ROLES = {pb.ROLE_ASSISTANT: "assistant", pb.ROLE_SYSTEM: "system", pb.ROLE_DEVELOPER: "system"}


def write_conversation(request: pb.CompletionRequest, body: Json, *, own: bool, system_turns: bool) -> None:
    """Put `system` and `messages` into the body."""
    if own:
        _write_own(request, body)
        return
    system: list[Json] = []
    turns: list[Json] = []
    waiting: list[Json] = []
    for at, message in enumerate(request.messages):
        blocks = blocks_of(message.parts, message_path(request, at), own=False)
        if message.role in INSTRUCTING:
            if not turns:
                system += blocks
            elif system_turns:
                _add_turn(turns, "system", blocks)
            else:
                waiting += blocks
            continue
        role = _ROLES.get(message.role, "user")
        if role == "user" and waiting:
            blocks, waiting = [*blocks, *waiting], []
        _add_turn(turns, role, blocks)
    if waiting:
        _add_turn(turns, "user", waiting)
    if system:
        body["system"] = content_of(system)
    for turn in turns:
        turn["content"] = content_of(_results_first(turn["content"]))
    body["messages"] = turns


def _add_turn(turns: list[Json], role: str, blocks: list[Json]) -> None:
    """Add what is said to the last turn where that has the same speaker: results of calls must come in one turn."""
    if not blocks:
        return
    if turns and turns[-1]["role"] == role:
        turns[-1]["content"] += blocks
    else:
        turns.append({"role": role, "content": blocks})


def _results_first(blocks: list[Json]) -> list[Json]:
    results = [block for block in blocks if block["type"] == "tool_result"]
    return [*results, *(block for block in blocks if block["type"] != "tool_result")] if results else blocks


def _write_own(request: pb.CompletionRequest, body: Json) -> None:
    turns: list[Json] = []
    for at, message in enumerate(request.messages):
        path = message_path(request, at)
        blocks = blocks_of(message.parts, path, own=True)
        if message.parts and not blocks:
            # Nothing but reasoning that cannot be sent back: the API refuses an empty turn.
            continue
        content = content_of(blocks)
        if not at and message.role in INSTRUCTING and not message.extra_json:
            body["system"] = content
            continue
        turn: Json = {"role": _ROLES.get(message.role, "user"), "content": content}
        if message.extra_json:
            json_text.add_missing(turn, json_text.caller_extra(message.extra_json, path))
        turns.append(turn)
    body["messages"] = turns
