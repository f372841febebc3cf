"""An adapter of AgentHub over gRPC: turns with tools, streamed, that outlive restarts and the rotation of their key.

A program to copy from, and to try: `python agenthub_adapter.py "What is the weather in Lyon?"`. It needs the package
`tokendance`, TOKENDANCE_GRPC_TARGET, TOKENDANCE_MODEL, and TOKENDANCE_API_KEY or TOKENDANCE_API_KEY_FILE.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path

from tokendance import AsyncClient, GatewayError
from tokendance.gateway.v1 import completion_pb2 as pb

KEY_REFUSED = frozenset({"invalid_api_key", "key_revoked", "key_expired"})
"""What a call gets whose key was rotated out meanwhile: the next secret cures it, and nothing else does."""

MOST_STEPS = 20
_FIRST_PAUSE_S = 0.2
_LONGEST_PAUSE_S = 10.0
_KEY_PATIENCE_S = 10.0
_KEY_LOOK_S = 0.1


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool of the host: `parameters_json` is the JSON Schema of its arguments, `run` gets them as JSON text."""

    name: str
    description: str
    parameters_json: str
    run: Callable[[str], Awaitable[str]]


@dataclass(frozen=True, slots=True)
class Text:
    """A piece of the answer."""

    text: str


@dataclass(frozen=True, slots=True)
class Restarted:
    """The answer begins anew, and its last step was said in vain: a cut answer could not be continued."""


@dataclass(frozen=True, slots=True)
class ToolUsed:
    """A tool was run, with what it returned."""

    name: str
    arguments_json: str
    result: str


@dataclass(frozen=True, slots=True)
class Done:
    """The turn is over. `messages` is the conversation to go on from; `request_ids` are what support asks for."""

    messages: tuple[pb.Message, ...]
    request_ids: tuple[str, ...]
    cost_micros: int


Event = Text | Restarted | ToolUsed | Done


@dataclass(slots=True)
class _Step:
    """What one answer of the model has brought so far."""

    text: str = ""
    calls: dict[int, pb.ToolCall] = field(default_factory=dict)
    request_id: str = ""
    cost_micros: int = 0


class KeyedClients:
    """A client for the key of now. A new key gets a new client; the old one lives as long as its calls do."""

    def __init__(self, target: str | None, read_key: Callable[[], str]) -> None:
        self._target = target
        self._read_key = read_key
        self._clients: dict[str, AsyncClient] = {}
        self._users: dict[str, int] = {}

    async def enter(self) -> tuple[str, AsyncClient]:
        """Return the key of now and its client, to be given back with `leave`."""
        key = self._read_key()
        client = self._clients.get(key)
        if client is None:
            client = self._clients[key] = AsyncClient(self._target, api_key=key)
        self._users[key] = self._users.get(key, 0) + 1
        return key, client

    async def leave(self, key: str) -> None:
        """Give a client back; one that nobody uses and whose key is not that of now is closed."""
        self._users[key] -= 1
        if not self._users[key] and key != self._read_key():
            del self._users[key]
            await self._clients.pop(key).close()

    async def wait_for_another(self, key: str) -> bool:
        """Wait until there is another key than a refused one; False where none comes."""
        for _ in range(round(_KEY_PATIENCE_S / _KEY_LOOK_S)):
            if self._read_key() != key:
                return True
            await asyncio.sleep(_KEY_LOOK_S)
        return False

    async def close(self) -> None:
        """Close all of them."""
        for client in self._clients.values():
            await client.close()


class Adapter:
    """Runs turns of a conversation on a model.

    `deadline_s` is for a whole turn, tools included. A `resumable` turn gives each of its calls an idempotency key: a
    call that was cut off is sent again, gets the same answer, and is charged once. The price is that such a call is
    read on where its turn is cancelled; a turn that people often cancel is better not resumable.
    """

    def __init__(
        self,
        read_key: Callable[[], str],
        model: str,
        tools: Sequence[Tool] = (),
        *,
        target: str | None = None,
        deadline_s: float = 300.0,
        attempts: int = 6,
        resumable: bool = True,
    ) -> None:
        self._clients = KeyedClients(target, read_key)
        self._model = model
        self._tools: Mapping[str, Tool] = {tool.name: tool for tool in tools}
        self._deadline_s = deadline_s
        self._attempts = attempts
        self._resumable = resumable

    async def close(self) -> None:
        """End the calls that still run."""
        await self._clients.close()

    async def turn(self, messages: Sequence[pb.Message]) -> AsyncGenerator[Event, None]:
        """Yield what happens until the model has answered in words. Closing the iterator cancels the call.

        Raises GatewayError where the turn cannot go on: `retryable` says whether the whole turn may be tried later.
        """
        until = asyncio.get_running_loop().time() + self._deadline_s
        history, request_ids, cost = list(messages), list[str](), 0
        for _ in range(MOST_STEPS):
            step = _Step()
            async with aclosing(self._answer(history, step, until)) as events:
                async for event in events:
                    yield event
            history.append(_as_message(step))
            request_ids.append(step.request_id)
            cost += step.cost_micros
            if not step.calls:
                yield Done(tuple(history), tuple(request_ids), cost)
                return
            for call in step.calls.values():
                result, failed = await self._run(call)
                history.append(_as_result(call, result, failed))
                yield ToolUsed(call.name, call.arguments_json, result)
        raise RuntimeError(f"the model still calls tools after {MOST_STEPS} steps")

    async def _answer(self, history: Sequence[pb.Message], step: _Step, until: float) -> AsyncGenerator[Event, None]:
        """Yield the pieces of one answer, asked for as often as that may help."""
        request = pb.CompletionRequest(model=self._model, messages=history)
        request.tools.extend(
            pb.Tool(
                kind=pb.TOOL_KIND_FUNCTION,
                name=tool.name,
                description=tool.description,
                parameters_json=tool.parameters_json,
            )
            for tool in self._tools.values()
        )
        # The same for every attempt: that is what makes a repeat harmless.
        idempotency_key = str(uuid.uuid4()) if self._resumable else ""
        told = ""
        for attempt in range(self._attempts):
            key, client = await self._clients.enter()
            left_s = until - asyncio.get_running_loop().time()
            try:
                step.text, step.calls = "", {}
                call = client.stream(request, idempotency_key=idempotency_key, timeout_s=max(left_s, 0.001))
                async with call as stream:
                    async for event in stream:
                        _note(event, step)
                        if not told.startswith(step.text[: len(told)]):
                            told = ""
                            yield Restarted()
                        if len(step.text) > len(told):
                            yield Text(step.text[len(told) :])
                            told = step.text
                    step.request_id = await stream.request_id() or ""
                if told != step.text:
                    yield Restarted()
                    yield Text(step.text)
                return
            except GatewayError as error:
                await self._may_go_on(error, key, attempt, until, told)
            finally:
                await self._clients.leave(key)

    async def _may_go_on(self, error: GatewayError, key: str, attempt: int, until: float, told: str) -> None:
        """Return once the call may be sent again; raise its error where that would not help."""
        if error.code in KEY_REFUSED:
            if await self._clients.wait_for_another(key):
                return
            raise error
        # What was said cannot be unsaid without the same answer coming again.
        if not error.retryable or attempt + 1 == self._attempts or (told and not self._resumable):
            raise error
        pause = min(_FIRST_PAUSE_S * 2**attempt, _LONGEST_PAUSE_S) * random.uniform(0.5, 1.0)  # noqa: S311 - spreads callers
        pause = max(pause, float(error.retry_after_s or 0))
        if asyncio.get_running_loop().time() + pause >= until:
            raise error
        await asyncio.sleep(pause)

    async def _run(self, call: pb.ToolCall) -> tuple[str, bool]:
        """Return what a tool says, and whether it failed: the model is told so, and may do better."""
        tool = self._tools.get(call.name)
        if tool is None:
            return f"There is no tool {call.name!r}.", True
        try:
            return await tool.run(call.arguments_json), False
        except Exception as error:  # noqa: BLE001 - whatever a tool does wrong is for the model to read
            return f"{type(error).__name__}: {error}", True


def _note(event: pb.CompletionEvent, step: _Step) -> None:
    kind = event.WhichOneof("event")
    if kind == "text":
        step.text += event.text.text
    elif kind == "tool_call":
        delta = event.tool_call
        call = step.calls.setdefault(delta.index, pb.ToolCall(kind=pb.TOOL_KIND_FUNCTION))
        call.id, call.name = call.id or delta.id, call.name or delta.name
        call.signature = call.signature or delta.signature
        call.arguments_json += delta.arguments
    elif kind == "finished":
        step.cost_micros = event.finished.account.cost_micros


def _as_message(step: _Step) -> pb.Message:
    parts = [pb.Part(text=pb.Text(text=step.text))] if step.text else []
    parts += [pb.Part(tool_call=call) for _, call in sorted(step.calls.items())]
    return pb.Message(role=pb.ROLE_ASSISTANT, parts=parts)


def _as_result(call: pb.ToolCall, result: str, failed: bool) -> pb.Message:
    told = pb.ToolResult(call_id=call.id, parts=[pb.Part(text=pb.Text(text=result))], is_error=failed)
    return pb.Message(role=pb.ROLE_TOOL, parts=[pb.Part(tool_result=told)])


def key_of_environment() -> str:
    """Return the key of now: the file of TOKENDANCE_API_KEY_FILE, which rotation replaces, else TOKENDANCE_API_KEY."""
    file = os.environ.get("TOKENDANCE_API_KEY_FILE", "")
    return Path(file).read_text(encoding="utf-8").strip() if file else os.environ["TOKENDANCE_API_KEY"]


async def _weather(arguments_json: str) -> str:
    return f"22 degrees and sunny, asked with {arguments_json}"


async def _main(prompt: str) -> None:
    schema = '{"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}'
    tool = Tool("get_weather", "Tells the weather of a city.", schema, _weather)
    adapter = Adapter(key_of_environment, os.environ["TOKENDANCE_MODEL"], [tool])
    question = pb.Message(role=pb.ROLE_USER, parts=[pb.Part(text=pb.Text(text=prompt))])
    try:
        async for event in adapter.turn([question]):
            match event:
                case Text():
                    print(event.text, end="", flush=True)
                case ToolUsed():
                    print(f"[{event.name}({event.arguments_json}) -> {event.result}]")
                case Restarted():
                    print("\n[the answer begins anew]")
                case Done():
                    print(f"\nTOKENDANCE_REQUEST_ID={event.request_ids[-1]}", file=sys.stderr)
    finally:
        await adapter.close()


if __name__ == "__main__":
    asyncio.run(_main(" ".join(sys.argv[1:]) or "What is the weather in Lyon?"))
