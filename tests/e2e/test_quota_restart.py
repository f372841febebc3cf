"""Counts outlive the process: asked to stop or killed, what was used is known to the next one, once."""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import aiohttp
import pytest
from tests.e2e.nodes import await_file, clean_environment, config_text, free_ports, start, stopping, wait_ready
from tests.e2e.operator_cli import documents, tokendance
from tests.e2e.upstream import Upstream

LONG = "sim:tokens=400:rate=20"


class House:
    """One data directory, and the nodes that run on it one after the other."""

    def __init__(self, folder: Path, upstream: Upstream) -> None:
        self.folder = folder
        self.data = folder / "data"
        folder.joinpath("gateway.toml").write_text(config_text(upstream.base_url, [LONG], 5))
        self.origin = ""

    @contextmanager
    def node(self, end: signal.Signals = signal.SIGTERM) -> Iterator[str]:
        """Run a node until it is ended so; gives the URL of its REST listener."""
        http, internal = free_ports(2)
        words = ["serve", "--data-dir", str(self.data), "--config", "gateway.toml", "--grpc", "", "--key-file", "key"]
        words += ["--http", f"127.0.0.1:{http}", "--internal", f"127.0.0.1:{internal}"]
        environment = clean_environment(TOKENDANCE_PROVIDER_SIM="sk-x")
        process = start(f"node-{http}", words, self.folder, environment)
        with stopping([process]):
            wait_ready(process, f"http://127.0.0.1:{internal}")
            await_file(self.folder / "key")
            self.origin = f"http://127.0.0.1:{http}"
            yield self.origin
            process.popen.send_signal(end)
            process.popen.wait(20)

    @property
    def key(self) -> str:
        """The first key's resource name."""
        return str(documents(self.data, "keys", "list")[-1]["name"])

    def limit(self, *words: str) -> None:
        """Set a limit of the key."""
        assert tokendance("--data-dir", str(self.data), "quota", "set", self.key, *words).returncode == 0

    def spent(self) -> dict[str, tuple[int, int]]:
        """What is spent and held of the key's limits."""
        (quota,) = documents(self.data, "quota", "show", self.key)
        return {one["rule"]["metric"]: (int(one.get("spent", 0)), int(one.get("held", 0))) for one in quota["limits"]}

    async def call(self, count: int, model: str = "demo-echo") -> Counter[int]:
        """Make calls, all at once; count what they were answered."""
        secret = (self.folder / "key").read_text().strip()
        body = {"model": model, "messages": [{"role": "user", "content": "Hi"}], "stream": model != "demo-echo"}
        headers = {"Authorization": f"Bearer {secret}"}
        answers: Counter[int] = Counter()
        async with aiohttp.ClientSession(headers=headers) as session:

            async def one() -> None:
                async with session.post(f"{self.origin}/v1/chat/completions", json=body) as answer:
                    await answer.read()
                    answers[answer.status] += 1

            await asyncio.gather(*(one() for _ in range(count)))
        return answers


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
def test_no_count_is_lost_and_none_counts_twice(upstream: Upstream, tmp_path: Path, end: signal.Signals) -> None:
    """Of a limit of 100, 40 are used before the end, and exactly 60 are left after it, and after another start."""
    house = House(tmp_path, upstream)
    with house.node(end):
        house.limit("--metric", "requests", "--window", "total", "--limit", "100")
        assert asyncio.run(house.call(40)) == {200: 40}
    with house.node(end):
        assert house.spent() == {"LIMIT_METRIC_REQUESTS": (40, 0)}
        assert asyncio.run(house.call(80)) == {200: 60, 429: 20}
    with house.node():
        assert house.spent() == {"LIMIT_METRIC_REQUESTS": (100, 0)}
        assert asyncio.run(house.call(1)) == {429: 1}


def test_calls_that_die_with_their_node_are_charged_by_the_written_rule(upstream: Upstream, tmp_path: Path) -> None:
    """As unknown, each with its prompt and an answer of the usual size; nothing is held any more."""
    house = House(tmp_path, upstream)

    async def begin_and_kill() -> None:
        model = f"patient/{LONG}"
        with house.node(signal.SIGKILL):
            house.limit("--metric", "requests", "--window", "total", "--limit", "100")
            house.limit("--metric", "output-tokens", "--window", "total", "--limit", "1000000")
            tasks = [asyncio.create_task(house.call(1, model)) for _ in range(5)]
            await asyncio.sleep(1.5)
            assert house.spent()["LIMIT_METRIC_REQUESTS"] == (0, 5)
        with pytest.raises(aiohttp.ClientError):
            await asyncio.gather(*tasks)
        await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(begin_and_kill())
    with house.node():
        spent = house.spent()
        assert spent["LIMIT_METRIC_REQUESTS"] == (5, 0)
        tokens, held = spent["LIMIT_METRIC_OUTPUT_TOKENS"]
        assert tokens > 0
        assert tokens % 5 == 0
        assert held == 0
