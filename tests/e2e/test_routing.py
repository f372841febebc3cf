"""Models on several upstreams: callers notice nothing of one that fails, before the first byte of an answer."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
from tests.e2e.calls import Seen, rest, rpc
from tests.e2e.fault_table import SENTENCE
from tests.e2e.nodes import ROOT, Node, await_file, clean_environment, free_ports, start, stopping, wait_ready
from tests.e2e.operator_cli import tokendance
from tests.e2e.upstream import Upstream, until

from tokendance.gateway.v1 import completion_pb2 as pb
from tokendance.gateway.v1 import completions_service_pb2 as completions
from tokendance.gateway.v1.completions_service_pb2_grpc import CompletionsServiceStub

SIMULATOR = str(ROOT / "tools" / "dev" / "simulator")
KINDS = {"openai": "/v1", "anthropic": "/v1", "gemini": "/v1beta"}
# What the first of two routes does; the second one works.
ROUTED_AROUND = {
    "closed": ("closed", "any"),
    "silent": ("first", "fault:stall"),
    "slow-head": ("first", "fault:slow-headers"),
    "reset": ("first", "fault:reset"),
    "empty": ("first", "fault:empty"),
    "garbage": ("first", "fault:not-http"),
    "page": ("first", "fault:html"),
    "error-body": ("first", "fault:error-body"),
    "error-first": ("first", "fault:error-event:n=0"),
    "limited": ("first", "fault:status:retry-after=30"),
    "overloaded": ("first", "fault:status:code=529"),
    "poisoned": ("poisoned", "fault:status:code=401"),
}
MIDWAY = ("first", "fault:cut")
# Every test here makes calls fail on purpose, one after the other.
LEAST_RETRIES = 80
STORM = ("storm-a", "storm-b")


@dataclass
class Simulator:
    """A simulator that can be killed, and started again at the same port."""

    port: int
    popen: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Run it; returns once it listens."""
        self.popen = subprocess.Popen(
            [sys.executable, SIMULATOR, "--port", str(self.port), "--log-size", "5000"],
            stdout=subprocess.PIPE,
            env=clean_environment(),
        )
        assert self.popen.stdout is not None
        assert json.loads(self.popen.stdout.readline())["port"] == self.port

    def kill(self) -> None:
        """End it as a power cut would."""
        if self.popen is not None:
            self.popen.kill()
            self.popen.wait()
            assert self.popen.stdout is not None
            self.popen.stdout.close()
            self.popen = None

    @property
    def upstream(self) -> Upstream:
        """What it remembers."""
        return Upstream(self.port)


@dataclass(frozen=True)
class Roads:
    """A node, and the simulators that it calls, by their dialect."""

    node: Node
    simulators: dict[str, Simulator]


def configuration(ports: dict[str, int], closed: int) -> str:
    """Providers and models as a settings file."""
    quick = 'first_byte_timeout_s = 0.5\ncredential = "env:TOKENDANCE_PROVIDER_SIM"\n'
    lines = [f"[server.routing]\nleast_retries = {LEAST_RETRIES}\n[server.limits]\nloop_lag_s = 10"]
    for kind, path in KINDS.items():
        lines.append(f'[[providers]]\nname = "{kind}"\nkind = "{kind}"\npublic_label = "Label {kind}"')
        lines.append(f'base_url = "http://127.0.0.1:{ports[kind]}{path}"\ncredential = "env:TOKENDANCE_PROVIDER_SIM"')
    for name in ("first", "poisoned", *STORM):
        lines.append(
            f'[[providers]]\nname = "{name}"\nkind = "openai"\nbase_url = "http://127.0.0.1:{ports["openai"]}/v1"'
        )
        lines.append(quick)
    lines.append(f'[[providers]]\nname = "closed"\nkind = "openai"\nbase_url = "http://127.0.0.1:{closed}/v1"')
    models: dict[str, Sequence[tuple[str, str, int]]] = {
        "spread": [(kind, "sim", 0) for kind in KINDS],
        "flapping": [("openai", "fault:flaky:every=2", 0), ("anthropic", "sim", 0), ("gemini", "sim", 0)],
        "midway": [(*MIDWAY, 0), ("anthropic", "sim", 1)],
        "storm": [(name, "fault:status:code=503", 0) for name in STORM],
        **{name: [(*route, 0), ("anthropic", "sim", 1)] for name, route in ROUTED_AROUND.items()},
    }
    for name, routes in models.items():
        told = ", ".join(
            f'{{ provider = "{provider}", upstream_model = "{model}", priority = {priority} }}'
            for provider, model, priority in routes
        )
        lines.append(f'[[models]]\nname = "{name}"\nroutes = [{told}]')
    lines.append(
        '[[models]]\nname = "tagged"\nroutes = ['
        '{ provider = "openai", upstream_model = "sim", tags = ["trains-on-data"] }, '
        '{ provider = "anthropic", upstream_model = "sim", priority = 1, tags = ["region:eu"] }]'
    )
    return "\n".join(lines) + "\n"


@pytest.fixture(scope="module")
def roads(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Roads]:
    """One node over three simulators, each spoken to in its own dialect."""
    folder = tmp_path_factory.mktemp("routing")
    *ports, closed, http, internal, grpc = free_ports(len(KINDS) + 4)
    simulators = {kind: Simulator(port) for kind, port in zip(KINDS, ports, strict=True)}
    text = configuration({kind: one.port for kind, one in simulators.items()}, closed)
    folder.joinpath("gateway.toml").write_text(text)
    arguments = ["serve", "--data-dir", "data", "--config", "gateway.toml", "--grpc", f"127.0.0.1:{grpc}"]
    arguments += ["--http", f"127.0.0.1:{http}", "--internal", f"127.0.0.1:{internal}", "--key-file", "key"]
    with ExitStack() as stack:
        for one in simulators.values():
            stack.callback(one.kill)
            one.start()
        process = start("node", arguments, folder, clean_environment(TOKENDANCE_PROVIDER_SIM="sk-sim"))
        stack.enter_context(stopping([process]))
        wait_ready(process, f"http://127.0.0.1:{internal}")
        await_file(folder / "key")
        yield Roads(
            Node(
                "one",
                f"http://127.0.0.1:{http}",
                f"127.0.0.1:{grpc}",
                (f"http://127.0.0.1:{internal}",),
                folder.joinpath("key").read_text().strip(),
                Path(folder / "data"),
                (process,),
            ),
            simulators,
        )


def _figures(node: Node) -> str:
    with urllib.request.urlopen(f"{node.internal[0]}/metrics", timeout=5) as answer:
        return str(answer.read(), "utf-8")


async def four(node: Node, model: str) -> list[Seen]:
    """The four ways to call, one after the other."""
    return [
        await rest(node, model, stream=False),
        await rest(node, model, stream=True),
        await rpc(node, model, stream=False),
        await rpc(node, model, stream=True),
    ]


@pytest.mark.parametrize("model", [*ROUTED_AROUND])
async def test_what_fails_before_the_first_byte_is_routed_around(roads: Roads, model: str) -> None:
    """Over REST and gRPC, whole and streamed; the answer tells that it was, and with it goes the request id."""
    seen = await four(roads.node, model)
    for one in seen:
        assert (one.code, one.text, one.done) == ("", SENTENCE, True)
        assert one.request_id.startswith("req_")
    assert seen[0].headers["x-tokendance-served-by"] == "Label anthropic"
    assert seen[0].headers.get("x-tokendance-retries") == "1"


async def test_what_breaks_midway_is_told_and_not_made_again(roads: Roads) -> None:
    """No other upstream is asked for a stream of which a part went out."""
    roads.simulators["anthropic"].upstream.forget()
    for call in (rest, rpc):
        seen = await call(roads.node, "midway", stream=True)
        assert (seen.code, seen.text, seen.done) == ("stream_interrupted", "The quick", False)
    assert roads.simulators["anthropic"].upstream.log() == []


async def test_a_refused_credential_is_taken_out_once_and_alarms(roads: Roads) -> None:
    """One call met the refusal; afterwards nobody does, and the alarm stands in log and figures."""
    await four(roads.node, "poisoned")
    upstream = roads.simulators["openai"].upstream
    assert len(upstream.log("fault:status:code=401")) == 1
    seen = await rest(roads.node, "poisoned", stream=False)
    assert (seen.text, seen.headers.get("x-tokendance-retries")) == (SENTENCE, None)
    assert '"event":"credential_refused"' in roads.node.text
    figures = await asyncio.to_thread(_figures, roads.node)
    assert 'tokendance_credentials_refused{provider="poisoned"} 1.0' in figures
    assert "sk-sim" not in roads.node.text + figures


async def test_a_policy_keeps_calls_from_routes_within_a_second(roads: Roads) -> None:
    """Every call of the organization, also where nothing is left; a call asks beforehand and is told why."""
    node = roads.node
    assert (await rest(node, "tagged", stream=False)).headers["x-tokendance-served-by"] == "Label openai"
    _exclude(node, "--exclude-route-tag", "trains-on-data")
    try:
        await asyncio.sleep(1)
        for stream in (False, True):
            seen = await rest(node, "tagged", stream=stream)
            assert seen.headers["x-tokendance-served-by"] == "Label anthropic"
        explained = await _explain(node, "tagged")
        assert [(one.provider, one.chosen) for one in explained.routes] == [
            ("Label openai", False),
            ("Label anthropic", True),
        ]
        assert "'trains-on-data'" in explained.routes[0].skipped_because
        _exclude(node, "--exclude-route-tag", "trains-on-data", "--exclude-route-tag", "region:eu")
        await asyncio.sleep(1)
        assert {one.code for one in await four(node, "tagged")} == {"model_not_allowed"}
    finally:
        _exclude(node, "--clear", "exclude-route-tag")
    await asyncio.sleep(1)
    assert (await rest(node, "tagged", stream=False)).headers["x-tokendance-served-by"] == "Label openai"


def _exclude(node: Node, *arguments: str) -> None:
    done = tokendance("--data-dir", str(node.data_dir), "policies", "set", *arguments)
    assert done.returncode == 0, done.stderr


async def _explain(node: Node, model: str) -> completions.ExplainCompletionResponse:
    message = pb.Message(role=pb.ROLE_USER, parts=[pb.Part(text=pb.Text(text="Hello"))])
    request = completions.ExplainCompletionRequest(completion=pb.CompletionRequest(model=model, messages=[message]))
    async with grpc.aio.insecure_channel(node.grpc) as channel:
        stub: Any = CompletionsServiceStub(channel)
        metadata = (("authorization", f"Bearer {node.api_key}"),)
        answer: completions.ExplainCompletionResponse = await stub.ExplainCompletion(request, metadata=metadata)
        return answer


async def test_a_flapping_route_of_three_costs_callers_nothing(roads: Roads) -> None:
    """Half of its calls fail; it is taken out, and used little."""
    upstream = roads.simulators["openai"].upstream
    for _ in range(15):
        seen = await asyncio.gather(*(rest(roads.node, "flapping", stream=True) for _ in range(10)))
        assert [(one.code, one.text) for one in seen] == [("", SENTENCE)] * 10
    assert len(upstream.log("fault:flaky:every=2")) < 60
    assert '"upstream_model":"fault:flaky:every=2"' in roads.node.text


async def test_a_storm_of_retries_is_bounded(roads: Roads) -> None:
    """Both upstreams answer 503 at full load: at most a fifth more goes out than comes in."""
    upstream = roads.simulators["openai"].upstream
    upstream.forget()
    calls = 600
    for part in range(calls // 20):
        way = rpc if part % 2 else rest
        seen = await asyncio.gather(*(way(roads.node, "storm", stream=False) for _ in range(20)))
        assert {one.code for one in seen} == {"provider_error"}
    asked = len(upstream.log("fault:status:code=503"))
    assert calls <= asked <= 1.2 * calls + LEAST_RETRIES
    assert roads.node.text.count('"provider":"storm-a"') >= 1


async def test_an_upstream_killed_under_load_costs_no_request(roads: Roads, record_property: Any) -> None:
    """One model on three dialects: none of the calls fails, and the upstream is used again soon after it is back."""
    node, killed = roads.node, roads.simulators["gemini"]
    stop = asyncio.Event()
    seen: list[tuple[float, Seen]] = []

    async def caller(number: int) -> None:
        while not stop.is_set():
            way = rest if number % 2 else rpc
            seen.append((time.monotonic(), await way(node, "spread", stream=number % 4 > 1)))

    callers = [asyncio.create_task(caller(number)) for number in range(8)]
    try:
        await asyncio.sleep(0.5)
        await asyncio.to_thread(killed.kill)
        gone = time.monotonic()
        await asyncio.sleep(1.0)
        await asyncio.to_thread(killed.start)
        back = time.monotonic()
        await asyncio.to_thread(until, lambda: len(killed.upstream.log()) > 3, 8.0)
        used = time.monotonic()
    finally:
        stop.set()
        await asyncio.gather(*callers)
    times = sorted(at for at, _ in seen)
    failed = [one for _, one in seen if (one.code, one.text) != ("", SENTENCE)]
    assert failed == []
    longest = max(after - before for before, after in pairwise(times))
    served = {one.headers.get("x-tokendance-served-by") for _, one in seen} - {None}
    assert served == {"Label openai", "Label anthropic", "Label gemini"}
    figures = {
        "calls": len(seen),
        "failed": len(failed),
        "retried": sum("x-tokendance-retries" in one.headers for _, one in seen),
        "down_s": round(back - gone, 2),
        "used_again_after_s": round(used - back, 2),
        "longest_gap_s": round(longest, 3),
    }
    print(figures)
    record_property("killed_under_load", figures)
    assert figures["used_again_after_s"] < 6
