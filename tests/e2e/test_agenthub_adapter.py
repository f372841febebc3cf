"""The example of an AgentHub adapter against a running node: tools, cancellation, deadlines, cut lines, new keys."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from tests.e2e.nodes import ROOT, Node, running
from tests.e2e.operator_cli import create_key, tokendance
from tests.e2e.upstream import Upstream, until

from tokendance import AsyncClient, GatewayError, text_message
from tokendance.gateway.v1 import usage_pb2

PROGRAM = ROOT / "clients" / "examples" / "agenthub_adapter.py"
SLOW = "sim:tokens=400:rate=100"
BRIEF = "sim:tokens=60:rate=60"
TURNS_AT_ONCE = 8


def _load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("agenthub_adapter", PROGRAM)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


adapter: Any = _load()


@pytest.fixture(scope="module")
def house(upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A node of these tests alone."""
    models = ["sim", "sim-tools", SLOW, BRIEF]
    with running("one", tmp_path_factory.mktemp("adapter"), upstream.base_url, models) as node:
        yield node


@asynccontextmanager
async def opened(node: Node, model: str, **more: Any) -> AsyncIterator[Any]:
    """An adapter on a node."""
    given = {"target": node.grpc, "read_key": lambda: node.api_key, **more}
    one = adapter.Adapter(given.pop("read_key"), model, **given)
    try:
        yield one
    finally:
        await one.close()


class Line:
    """A TCP proxy before the node that can be cut, as when a node restarts."""

    def __init__(self, target: str) -> None:
        host, _, port = target.rpartition(":")
        self._target = (host, int(port))
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None
        self.address = ""

    async def open(self) -> None:
        """Listen; after a cut on the same address as before."""
        port = int(self.address.rpartition(":")[2]) if self.address else 0
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", port)
        self.address = f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def cut(self) -> None:
        """End every connection and take none."""
        assert self._server is not None
        self._server.close()
        await self._server.wait_closed()
        for writer in list(self._writers):
            writer.transport.abort()
        await asyncio.sleep(0)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream_reader, upstream_writer = await asyncio.open_connection(*self._target)
        pair = {writer, upstream_writer}
        self._writers |= pair
        try:
            await asyncio.gather(self._pump(reader, upstream_writer), self._pump(upstream_reader, writer))
        finally:
            self._writers -= pair
            for one in pair:
                one.transport.abort()

    @staticmethod
    async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()


def question(text: str = "Hello.") -> list[Any]:
    """A conversation that begins."""
    return [text_message("user", text)]


async def read(turn: Any) -> tuple[str, list[Any]]:
    """The text of a turn as its reader has it in the end, and every event."""
    text, events = "", []
    async for event in turn:
        events.append(event)
        if isinstance(event, adapter.Text):
            text += event.text
        elif isinstance(event, adapter.Restarted):
            text = ""
    return text, events


def tool(run: Callable[[str], Any]) -> Sequence[Any]:
    """One tool."""
    return [adapter.Tool("get_weather", "Tells the weather.", '{"type":"object","properties":{}}', run)]


async def test_turn_runs_tools_until_the_model_answers(house: Node) -> None:
    """The call, its result, and the answer in words; the conversation can go on from what is handed back."""
    asked = []

    async def weather(arguments: str) -> str:
        asked.append(arguments)
        return "22 degrees"

    async with opened(house, "sim-tools", tools=tool(weather)) as one:
        text, events = await read(one.turn(question("What is the weather?")))
        (used,) = [event for event in events if isinstance(event, adapter.ToolUsed)]
        assert (used.name, used.result, len(asked)) == ("get_weather", "22 degrees", 1)
        done = events[-1]
        assert text
        assert [len(done.messages), len(done.request_ids)] == [4, 2]
        assert all(request_id.startswith("req_") for request_id in done.request_ids)
        again, _ = await read(one.turn([*done.messages, *question("And tomorrow?")]))
        assert again


async def test_tool_that_fails_is_told_to_the_model(house: Node) -> None:
    """The turn goes on with its error."""

    async def broken(arguments: str) -> str:
        raise RuntimeError("no network")

    async with opened(house, "sim-tools", tools=tool(broken)) as one:
        text, events = await read(one.turn(question()))
    (used,) = [event for event in events if isinstance(event, adapter.ToolUsed)]
    assert used.result == "RuntimeError: no network"
    assert text


async def test_turn_that_is_left_ends_upstream(house: Node, upstream: Upstream) -> None:
    """Text came piece by piece, and nothing is produced for nobody."""
    async with opened(house, SLOW, resumable=False) as one:
        async with aclosing(one.turn(question())) as turn:
            pieces = [await anext(turn) for _ in range(3)]
        assert all(isinstance(piece, adapter.Text) for piece in pieces)
        await asyncio.to_thread(until, lambda: upstream.busy() == 0)


async def test_turn_ends_at_its_deadline(house: Node) -> None:
    """With the code for it, and no later."""
    began = time.monotonic()
    async with opened(house, SLOW, deadline_s=0.6) as one:
        with pytest.raises(GatewayError) as caught:
            await read(one.turn(question()))
    assert caught.value.code == "deadline_exceeded"
    assert time.monotonic() - began < 3


async def test_cut_line_is_taken_up_again(house: Node, upstream: Upstream) -> None:
    """The reader sees one answer without a seam; the model was asked once, and the second call costs nothing."""
    upstream.forget()
    line = Line(house.grpc)
    await line.open()
    async with opened(house, BRIEF, target=line.address) as one:
        text, came, events = "", 0, []
        async with aclosing(one.turn(question())) as turn:
            async for event in turn:
                events.append(event)
                if isinstance(event, adapter.Text):
                    text += event.text
                    came += 1
                if came == 5:
                    came = 100
                    await line.cut()
                    await asyncio.sleep(0.3)
                    await line.open()
    assert not any(isinstance(event, adapter.Restarted) for event in events)
    assert len(upstream.log(BRIEF)) == 1
    async with AsyncClient(house.grpc, api_key=house.api_key) as client:
        record = (await client.get_request(events[-1].request_ids[0])).record
    assert record.replay_of
    assert record.outcome == usage_pb2.REQUEST_OUTCOME_SUCCEEDED
    async with opened(house, BRIEF) as one:
        whole, _ = await read(one.turn(question()))
    assert text == whole
    await line.cut()


async def test_gateway_that_does_not_come_back_is_told(house: Node) -> None:
    """After its attempts the turn fails with an error that says that it may be tried later."""
    line = Line(house.grpc)
    await line.open()
    await line.cut()
    async with opened(house, BRIEF, target=line.address, attempts=2) as one:
        with pytest.raises(GatewayError) as caught:
            await read(one.turn(question()))
    assert caught.value.retryable


async def test_new_key_under_load_costs_no_turn(house: Node, tmp_path: Path) -> None:
    """Turns run side by side while the key is rotated without an overlap: each of them ends well."""
    created, secret = create_key(house.data_dir, "Adapter under test")
    file = tmp_path / "key"
    file.write_text(secret)
    over = False
    ended = 0

    async def work(one: Any) -> None:
        nonlocal ended
        while not over:
            text, _ = await read(one.turn(question()))
            assert text
            ended += 1

    async with opened(house, "sim", read_key=lambda: file.read_text().strip()) as one:
        workers = [asyncio.create_task(work(one)) for _ in range(TURNS_AT_ONCE)]
        while not ended:
            await asyncio.sleep(0.02)
        before = ended
        done = await asyncio.to_thread(
            tokendance,
            *("--data-dir", str(house.data_dir), "--format", "json"),
            *("keys", "rotate", created["name"], "--overlap", "0"),
        )
        assert done.returncode == 0, done.stderr
        file.write_text(json.loads(done.stdout)["secret"])
        await asyncio.sleep(0.5)
        over = True
        await asyncio.gather(*workers)
    assert before > 0
    assert ended > before + TURNS_AT_ONCE


def test_program_runs_from_a_shell(house: Node) -> None:
    """With nothing but its environment, as the page of AgentHub sets it."""
    environment = house.environment("sim-tools") | {"TOKENDANCE_GRPC_TARGET": house.grpc}
    done = subprocess.run(
        [sys.executable, str(PROGRAM), "What is the weather in Lyon?"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "[get_weather(" in done.stdout
    assert "TOKENDANCE_REQUEST_ID=req_" in done.stderr
