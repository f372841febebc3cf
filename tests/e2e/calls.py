"""One call of a node as a client without any cleverness makes it, and everything that came back."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import grpc
import grpc.aio
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]  # ships no types
from tests.e2e.nodes import Node

from tokendance.gateway.v1 import completion_pb2 as pb
from tokendance.gateway.v1 import completions_service_pb2 as completions
from tokendance.gateway.v1.completions_service_pb2_grpc import CompletionsServiceStub

TIMEOUT_S = 30
MESSAGE_OPTIONS = [("grpc.max_receive_message_length", 48 * 1024 * 1024)]


@dataclass
class Seen:
    """What a client saw of one call.

    `status` is the HTTP status or the gRPC code's name; `code` the error's stable code (`ErrorInfo.reason` in lower
    case over gRPC), empty where there was none; `began` tells that content or a status of success came before the
    error. `raw` is every byte or text of heads, bodies, metadata and messages.
    """

    status: int | str
    code: str = ""
    message: str = ""
    began: bool = False
    text: str = ""
    reasoning: str = ""
    finish: str = ""
    usage: Mapping[str, int] = field(default_factory=dict)
    tool_calls: list[tuple[str, str, str]] = field(default_factory=list)
    retry_after: str = ""
    request_id: str = ""
    done: bool = False
    headers: Mapping[str, str] = field(default_factory=dict)
    error: Mapping[str, Any] = field(default_factory=dict)
    raw: str = ""


def chat_body(model: str, *, stream: bool, **fields: Any) -> dict[str, Any]:
    """The smallest chat request, with more fields."""
    body: dict[str, Any] = {"model": model, "messages": [{"role": "user", "content": "Hello"}]}
    if stream:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    return body | fields


async def rest(node: Node, model: str, *, stream: bool, key: str | None = None, **fields: Any) -> Seen:
    """POST /v1/chat/completions, read to the end."""
    timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
    headers = {"authorization": f"Bearer {node.api_key if key is None else key}"}
    async with (
        aiohttp.ClientSession(timeout=timeout, headers=headers) as session,
        session.post(f"{node.base_url}/chat/completions", json=chat_body(model, stream=stream, **fields)) as answer,
    ):
        raw = await answer.text()
    head = "".join(f"{name}: {value}\n" for name, value in answer.headers.items())
    seen = Seen(answer.status, headers=answer.headers, raw=f"{head}\n{raw}")
    seen.request_id = answer.headers.get("x-request-id", "")
    seen.retry_after = answer.headers.get("retry-after", "")
    if answer.content_type == "text/event-stream":
        _read_events(seen, raw)
    else:
        _read_document(seen, json.loads(raw))
    return seen


def _read_document(seen: Seen, document: Mapping[str, Any]) -> None:
    if "error" in document:
        read_error(seen, document["error"])
        return
    choice = document["choices"][0]
    message = choice["message"]
    seen.text = message["content"] or ""
    seen.reasoning = message.get("reasoning_content") or ""
    seen.finish = choice["finish_reason"]
    seen.usage = document.get("usage") or {}
    seen.done = True
    calls = message.get("tool_calls", [])
    seen.tool_calls = [(call["id"], call["function"]["name"], call["function"]["arguments"]) for call in calls]


def _read_events(seen: Seen, raw: str) -> None:
    calls: dict[int, list[str]] = {}
    for block in raw.split("\n\n"):
        if not block or block.startswith(":"):
            continue
        assert block.startswith("data: "), f"an event of another form: {block[:200]!r}"
        assert not seen.done, f"an event after the end: {block[:200]!r}"
        assert not seen.code, f"an event after an error: {block[:200]!r}"
        payload = block.removeprefix("data: ")
        if payload == "[DONE]":
            seen.done = True
            continue
        chunk = json.loads(payload)
        if "error" in chunk:
            read_error(seen, chunk["error"])
            continue
        seen.began = True
        seen.usage = chunk.get("usage") or seen.usage
        for choice in chunk["choices"]:
            delta = choice["delta"]
            seen.text += delta.get("content") or ""
            seen.reasoning += delta.get("reasoning_content") or ""
            seen.finish = choice["finish_reason"] or seen.finish
            _read_tool_deltas(calls, delta.get("tool_calls", []))
    seen.tool_calls = [(call[0], call[1], call[2]) for _, call in sorted(calls.items())]


def _read_tool_deltas(calls: dict[int, list[str]], deltas: Sequence[Mapping[str, Any]]) -> None:
    for delta in deltas:
        call = calls.setdefault(delta["index"], ["", "", ""])
        call[0] += delta.get("id", "")
        call[1] += delta["function"].get("name", "")
        call[2] += delta["function"].get("arguments", "")


def read_error(seen: Seen, error: Mapping[str, Any]) -> None:
    """Note an error in OpenAI's form."""
    seen.error = error
    seen.code, seen.message = error["code"], error["message"]
    seen.request_id = seen.request_id or error["request_id"]


def said(text: str) -> pb.Message:
    """A turn of the person."""
    return pb.Message(role=pb.ROLE_USER, parts=[pb.Part(text=pb.Text(text=text))])


def completion_request(model: str, **fields: Any) -> pb.CompletionRequest:
    """The smallest canonical request, with more fields."""
    return pb.CompletionRequest(model=model, **({"messages": [said("Hello")]} | fields))


async def rpc(
    node: Node, model: str, *, stream: bool, key: str | None = None, timeout_s: float = TIMEOUT_S, **fields: Any
) -> Seen:
    """CreateCompletion or StreamCompletion, read to the end, with no client of ours in between."""
    metadata = (("authorization", f"Bearer {node.api_key if key is None else key}"),)
    seen = Seen("OK")
    async with grpc.aio.insecure_channel(node.grpc, options=MESSAGE_OPTIONS) as channel:
        stub = CompletionsServiceStub(channel)
        asked = completion_request(model, **fields)
        call: Any
        try:
            if stream:
                call = stub.StreamCompletion(
                    completions.StreamCompletionRequest(completion=asked), metadata=metadata, timeout=timeout_s
                )
                async for batch in call:
                    _read_batch(seen, batch)
            else:
                call = stub.CreateCompletion(
                    completions.CreateCompletionRequest(completion=asked), metadata=metadata, timeout=timeout_s
                )
                _read_completion(seen, (await call).completion)
        except grpc.aio.AioRpcError as failure:
            read_failure(seen, failure)
        initial = dict(await call.initial_metadata() or ())
        trailing = dict(await call.trailing_metadata() or ())
    seen.raw += f"{initial}\n{trailing}"
    seen.request_id = seen.request_id or str(initial.get("x-request-id", trailing.get("x-request-id", "")))
    return seen


def _read_completion(seen: Seen, completion: pb.Completion) -> None:
    seen.raw += str(completion)
    choice = completion.choices[0]
    for part in choice.message.parts:
        seen.text += part.text.text
        seen.reasoning += part.reasoning.text
        if part.HasField("tool_call"):
            call = part.tool_call
            seen.tool_calls.append((call.id, call.name, call.arguments_json))
    seen.finish = pb.FinishReason.Name(choice.finish_reason).removeprefix("FINISH_REASON_").lower()
    _read_usage(seen, completion.usage)


def _read_batch(seen: Seen, batch: completions.StreamCompletionResponse) -> None:
    assert batch.events
    for event in batch.events:
        seen.raw += str(event)
        assert not seen.done
        kind = event.WhichOneof("event")
        assert (kind == "started") == (not seen.began)
        seen.began = True
        if kind == "text":
            seen.text += event.text.text
        elif kind == "reasoning":
            seen.reasoning += event.reasoning.text
        elif kind == "tool_call":
            delta = event.tool_call
            if delta.index == len(seen.tool_calls):
                seen.tool_calls.append(("", "", ""))
            id_, name, arguments = seen.tool_calls[delta.index]
            seen.tool_calls[delta.index] = (id_ + delta.id, name + delta.name, arguments + delta.arguments)
        elif kind == "choice_finished":
            reason = event.choice_finished.finish_reason
            seen.finish = pb.FinishReason.Name(reason).removeprefix("FINISH_REASON_").lower()
        elif kind == "finished":
            _read_usage(seen, event.finished.usage)


def _read_usage(seen: Seen, usage: pb.Usage) -> None:
    seen.done = True
    seen.usage = {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "source": usage.source,
    }


def read_failure(seen: Seen, failure: grpc.aio.AioRpcError) -> None:
    """Note a status and its details."""
    seen.status, seen.message = failure.code().name, failure.details() or ""
    seen.raw += f"{failure.details()}\n{failure.debug_error_string()}\n"
    packed = dict(failure.trailing_metadata()).get("grpc-status-details-bin")
    if packed is None:
        return
    status = status_pb2.Status.FromString(packed)
    seen.raw += str(status)
    for detail in status.details:
        info, retry, request = (
            error_details_pb2.ErrorInfo(),
            error_details_pb2.RetryInfo(),
            error_details_pb2.RequestInfo(),
        )
        if detail.Unpack(info):
            assert info.domain == "gateway.tokendance"
            seen.code = info.reason.lower()
        elif detail.Unpack(retry):
            seen.retry_after = str(retry.retry_delay.seconds)
        elif detail.Unpack(request):
            seen.request_id = request.request_id
