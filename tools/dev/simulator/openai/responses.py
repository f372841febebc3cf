"""Writes answers of the Responses API: the object, and the events in OpenAI's order, which end without [DONE]."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from dev.simulator.answer import Answer
from dev.simulator.plan import Plan
from dev.simulator.replies import Ask, Reply, Tool, ToolCall, argument_pieces, prompt_tokens_of, reply_to

from .chat import CREATED
from .errors import error_body, error_object
from .quirks import ERROR_MESSAGE, usage_of
from .requests import RequestError, count_of

Json = dict[str, Any]
Event = tuple[str, Json]

_RESULTS = ("_output", "_response")


def responses_answer(document: Mapping[str, Any], plan: Plan) -> Answer:
    """The answer to POST /v1/responses; what the caller set is repeated in it."""
    ask = read_responses(document, plan)
    reply = reply_to(ask)
    usage = _usage(ask, reply)
    return Answer(
        plan,
        ask.stream,
        lambda: _body(plan, _response(document, plan, _ending(plan, reply), _items(reply), usage)),
        lambda: _framed(plan, list(_events(document, plan, reply, usage))),
        error_body,
        tokens=(usage["input_tokens"], usage["output_tokens"]),
    )


def read_responses(document: Mapping[str, Any], plan: Plan) -> Ask:
    """Reads the body; raises RequestError without usable input."""
    given = document.get("input")
    items = [{"role": "user", "content": given}] if isinstance(given, str) else given
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise RequestError("input must be a text or a list of items.")
    texts = [_text_of(item.get("content") or item.get("output")) for item in items]
    users = [at for at, item in enumerate(items) if item.get("role") == "user"]
    after = items[users[-1] + 1 :] if users else items
    tools = list(document.get("tools") or ())
    for item in items:
        tools += item.get("tools") or () if item.get("type") == "additional_tools" else ()
    form = (document.get("text") or {}).get("format") or {}
    prompt = prompt_tokens_of(str(document.get("instructions") or ""))
    return Ask(
        plan=plan,
        stream=bool(document.get("stream")),
        prompt_tokens=prompt + sum(map(prompt_tokens_of, texts)),
        max_tokens=count_of(document, "max_output_tokens", None),
        last_user_text=texts[users[-1]] if users else "",
        tools=tuple(_tools(tools, document.get("tool_choice"))),
        may_call_tools=not str(items[-1].get("type", "") if items else "").endswith(_RESULTS),
        results=sum(str(item.get("type", "")).endswith(_RESULTS) for item in after),
        json_schema=form.get("schema"),
    )


def _text_of(content: Any) -> str:
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    return "".join(str(part.get("text", "")) for part in parts if isinstance(part, dict))


def _tools(tools: list[Any], choice: Any, space: str = "") -> Iterator[Tool]:
    """The tools that may be called: none, the one that the choice names, or all, those in namespaces included."""
    if choice == "none":
        return
    wanted = choice.get("name") if isinstance(choice, dict) else None
    for tool in tools:
        if tool.get("type") == "namespace":
            yield from _tools(tool.get("tools") or [], choice, str(tool.get("name")))
        elif tool.get("type") in ("function", "custom") and wanted in (None, tool.get("name")):
            yield Tool(str(tool.get("name")), tool.get("parameters"), tool["type"] == "custom", space)


def _usage(ask: Ask, reply: Reply) -> Json:
    return {
        "input_tokens": ask.prompt_tokens,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": reply.tokens,
        "output_tokens_details": {"reasoning_tokens": reply.reasoning_tokens},
        "total_tokens": ask.prompt_tokens + reply.tokens,
    }


def _ending(plan: Plan, reply: Reply) -> str:
    """Why the answer is incomplete, or nothing."""
    if plan.fault == "finish":
        return plan.word("reason")
    return "max_output_tokens" if reply.finish == "length" else ""


def _response(document: Mapping[str, Any], plan: Plan, incomplete: str, items: list[Json], usage: Json | None) -> Json:
    repeated = {
        name: value for name, value in document.items() if name not in ("input", "stream", "stream_options", "include")
    }
    response = {
        "id": "resp_sim",
        "object": "response",
        "created_at": CREATED,
        "background": False,
        "error": None,
        "billing": {"payer": "upstream-org-canary"},
        **repeated,
        "model": plan.model,
        "status": "incomplete" if incomplete else "completed",
        "incomplete_details": {"reason": incomplete} if incomplete else None,
        "output": items,
        "service_tier": "default",
    }
    shown = usage_of(plan, usage) if usage is not None else None
    return response | ({"usage": shown} if shown is not None else {})


def _body(plan: Plan, response: Json) -> bytes:
    if plan.fault == "error-event":
        return orjson.dumps({"error": error_object(500, "auto", ERROR_MESSAGE)})
    if plan.fault == "no-finish":
        response = response | {"status": "in_progress"}
    return orjson.dumps(response)


def _items(reply: Reply) -> list[Json]:
    items: list[Json] = []
    if reply.reasoning:
        items.append(_reasoning("".join(reply.reasoning), "sealed-by-the-simulator"))
    items += [_call(at, call, call.arguments, "completed") for at, call in enumerate(reply.calls)]
    if not reply.calls:
        items.append(_message(reply.text, "completed"))
    return items


def _reasoning(text: str, sealed: str) -> Json:
    summary = [{"type": "summary_text", "text": text}] if text else []
    return {"type": "reasoning", "id": "rs_sim", "summary": summary, "encrypted_content": sealed}


def _message(text: str | None, status: str) -> Json:
    content = [] if text is None else [_text_part(text)]
    return {"type": "message", "id": "msg_sim", "status": status, "role": "assistant", "content": content}


def _text_part(text: str) -> Json:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _call(at: int, call: ToolCall, arguments: str, status: str) -> Json:
    named: Json = {"call_id": call.id, "name": call.name, "status": status}
    if call.namespace:
        named["namespace"] = call.namespace
    if call.custom:
        return {"type": "custom_tool_call", "id": f"ctc_sim_{at}", "input": arguments, **named}
    return {"type": "function_call", "id": f"fc_sim_{at}", "arguments": arguments, **named}


def _events(document: Mapping[str, Any], plan: Plan, reply: Reply, usage: Json) -> Iterator[Event]:
    begun = _response(document, plan, "", [], None) | {"status": "in_progress"}
    yield "response.created", {"response": begun}
    yield "response.in_progress", {"response": begun}
    index = 0
    if reply.reasoning:
        yield from _thinking(reply)
        index += 1
    for at, call in enumerate(reply.calls):
        yield from _calling(index + at, at, call)
    if not reply.calls:
        yield from _saying(index, reply)
    incomplete = _ending(plan, reply)
    if plan.fault != "no-finish":
        end = _response(document, plan, incomplete, _items(reply), usage)
        yield f"response.{'incomplete' if incomplete else 'completed'}", {"response": end}


def _thinking(reply: Reply) -> Iterator[Event]:
    place: Json = {"item_id": "rs_sim", "output_index": 0, "summary_index": 0}
    whole = "".join(reply.reasoning)
    yield "response.output_item.added", {"output_index": 0, "item": _reasoning("", "")}
    yield "response.reasoning_summary_part.added", {**place, "part": {"type": "summary_text", "text": ""}}
    for piece in reply.reasoning:
        yield "response.reasoning_summary_text.delta", {**place, "delta": piece}
    yield "response.reasoning_summary_text.done", {**place, "text": whole}
    yield "response.reasoning_summary_part.done", {**place, "part": {"type": "summary_text", "text": whole}}
    yield "response.output_item.done", {"output_index": 0, "item": _reasoning(whole, "sealed-by-the-simulator")}


def _saying(index: int, reply: Reply) -> Iterator[Event]:
    place: Json = {"item_id": "msg_sim", "output_index": index, "content_index": 0}
    yield "response.output_item.added", {"output_index": index, "item": _message(None, "in_progress")}
    yield "response.content_part.added", {**place, "part": _text_part("")}
    for piece in reply.pieces:
        yield "response.output_text.delta", {**place, "delta": piece, "logprobs": []}
    yield "response.output_text.done", {**place, "text": reply.text, "logprobs": []}
    yield "response.content_part.done", {**place, "part": _text_part(reply.text)}
    yield "response.output_item.done", {"output_index": index, "item": _message(reply.text, "completed")}


def _calling(index: int, at: int, call: ToolCall) -> Iterator[Event]:
    begun = _call(at, call, "", "in_progress")
    kind = "custom_tool_call_input" if call.custom else "function_call_arguments"
    place = {"item_id": begun["id"], "output_index": index}
    yield "response.output_item.added", {"output_index": index, "item": begun}
    for piece in argument_pieces(call.arguments):
        yield f"response.{kind}.delta", {**place, "delta": piece}
    yield f"response.{kind}.done", {**place, "input" if call.custom else "arguments": call.arguments}
    yield "response.output_item.done", {"output_index": index, "item": _call(at, call, call.arguments, "completed")}


def _framed(plan: Plan, events: list[Event]) -> tuple[bytes, ...]:
    if plan.fault == "error-event":
        events = [*events[: plan.count("n")], _failure(plan.word("form"))]
    return tuple(
        b"event: %b\ndata: %b\n\n" % (kind.encode(), orjson.dumps({"type": kind, "sequence_number": number, **fields}))
        for number, (kind, fields) in enumerate(events)
    )


def _failure(form: str) -> Event:
    error = error_object(500, "auto", ERROR_MESSAGE)
    if form in ("flat", "named-flat"):
        return "error", {"code": "server_error", "message": ERROR_MESSAGE, "param": None}
    if form in ("openai", "named"):
        return "error", {"error": error}
    failed = {"id": "resp_sim", "status": "failed", "error": {"code": "server_error", "message": ERROR_MESSAGE}}
    return "response.failed", {"response": failed}
