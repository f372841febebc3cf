"""What is done to measure each row: one function for each part of the table, called once a round."""

from __future__ import annotations

import asyncio
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import orjson

from .grpc_load import drive_grpc
from .http_load import HOST, Load, Target, drive, open_streams
from .node import Node, start_node
from .processes import TOOLS, Cores, Started, redis_server, start
from .rows import Side

CONNECTIONS = 32
TOKENS = 64
# Slow enough to leave the node time between packets, as a model does: two thirds of a core stay free.
MODEL = "sim"
STEADY = f"sim:tokens={TOKENS}:rate=200"
BURSTS = f"sim:tokens={TOKENS}:rate=400:burst=8"
PACKET_GAP_S = {STEADY: 1 / 200, BURSTS: 8 / 400}
LONG = "sim:tokens=600:rate=1"
MODELS = (MODEL, STEADY, BURSTS, LONG)
# A stream has a chunk for the role and one for the end as well.
CHUNKS = TOKENS + 2
SETTLE_S = 1.0
# A hundred thousand keys in a whole run, and a few thousand in a quick one.
KEYS_OF_A_STREAM = 50

Sample = tuple[str, Side, float]
"""Row, side and value of one round."""


@dataclass(frozen=True)
class Rig:
    """What runs, and how long to load it. `node` is None where only yardsticks are measured."""

    simulator: Started
    yardsticks: Mapping[str, Started]
    node: Node | None
    cores: Cores
    folder: Path
    seconds: float
    streams: int

    def sides(self, yardstick: str) -> list[tuple[Side, Started]]:
        """Whom to load, in turn."""
        both = [(Side.YARDSTICK, self.yardsticks[yardstick])]
        if self.node is not None:
            both.append((Side.NODE, Started(self.node.process, self.node.port, self.node.authorization)))
        return both


@dataclass(frozen=True)
class Part:
    """A measurement that fills `rows`; `once` if another round would tell nothing new."""

    name: str
    rows: Sequence[str]
    measure: Callable[[Rig], Awaitable[list[Sample]]]
    once: bool = False


async def ready(rig: Rig) -> list[Sample]:
    """Starts a process, and a node twice: in an empty data directory, and in the one that it left."""
    began = time.perf_counter()
    proxy = start("dev.bench.yardsticks", ["json-proxy"], rig.cores.servers, rig.folder / "ready.log")
    took_s = time.perf_counter() - began
    proxy.process.stop()
    samples = [(row, Side.YARDSTICK, took_s) for row in ("ready-first", "ready-again")]
    if rig.node is None:
        return samples
    with tempfile.TemporaryDirectory(dir=rig.folder) as name:
        folder = Path(name)
        shutil.copy(rig.folder / "gateway.toml", folder)
        for row in ("ready-first", "ready-again"):
            with await start_node(folder, rig.cores.servers) as node:
                samples.append((row, Side.NODE, node.ready_s))
    return samples


async def memory_idle(rig: Rig) -> list[Sample]:
    """Reads resident memory before any load."""
    await asyncio.sleep(SETTLE_S)
    return [("memory-idle", side, one.process.rss_bytes() / 1e6) for side, one in rig.sides("json-proxy")]


async def rest(rig: Rig) -> list[Sample]:
    """As many requests as one core can take."""
    samples: list[Sample] = []
    for side, one in rig.sides("json-proxy"):
        load = await drive(_target(one, MODEL), CONNECTIONS, rig.seconds, one.process.cpu_s)
        samples += [
            ("rest-cpu", side, load.cpu_s / load.answers * 1e6),
            ("rest-rate", side, load.answers / load.wall_s),
        ]
    return samples


async def latency(rig: Rig) -> list[Sample]:
    """One request at a time, straight to the simulator and through each side."""

    async def one_at_a_time(server: Started) -> Load:
        return await drive(_target(server, MODEL), 1, rig.seconds / 2, server.process.cpu_s)

    direct = await one_at_a_time(rig.simulator)
    samples: list[Sample] = []
    for side, one in rig.sides("json-proxy"):
        load = await one_at_a_time(one)
        for row, percent in (("latency-p50", 50), ("latency-p99", 99)):
            samples.append((row, side, (load.percentile_s(percent) - direct.percentile_s(percent)) * 1e3))
    return samples


async def chunk(rig: Rig) -> list[Sample]:
    """Streams at a model's pace, one chunk a packet."""
    return await _stream(rig, "chunk-cpu", STEADY)


async def chunk8(rig: Rig) -> list[Sample]:
    """Streams of a fast model, eight chunks a packet."""
    return await _stream(rig, "chunk8-cpu", BURSTS)


async def _stream(rig: Rig, row: str, model: str) -> list[Sample]:
    samples: list[Sample] = []
    for side, one in rig.sides("byte-relay"):
        target = _target(one, model, stream=True)
        load = await drive(target, CONNECTIONS, rig.seconds, one.process.cpu_s, stagger_s=PACKET_GAP_S[model])
        if load.events < load.answers * TOKENS:
            raise RuntimeError(f"{load.answers} streams had {load.events} chunks, fewer than {TOKENS} each.")
        samples.append((row, side, load.cpu_s / (load.answers * CHUNKS) * 1e6))
    return samples


async def grpc(rig: Rig) -> list[Sample]:
    """As many calls as one core can take."""
    samples: list[Sample] = []
    for side, one in rig.sides("empty-grpc"):
        port = rig.node.grpc_port if rig.node is not None and side is Side.NODE else one.port
        load = await drive_grpc(port, one.authorization, MODEL, rig.seconds, one.process.cpu_s)
        samples += [
            ("grpc-cpu", side, load.cpu_s / load.answers * 1e6),
            ("grpc-rate", side, load.answers / load.wall_s),
        ]
    return samples


async def wrk(rig: Rig) -> list[Sample]:
    """The same as `rest` by somebody else's driver, to see whether ours can be believed."""
    samples: list[Sample] = []
    for side, one in rig.sides("json-proxy"):
        target = _target(one, MODEL)
        script = rig.folder / "post.lua"
        script.write_text(
            f'wrk.method = "POST"\nwrk.body = [[{target.body.decode()}]]\n'
            f'wrk.headers["Authorization"] = "{target.authorization}"\n'
            'wrk.headers["Content-Type"] = "application/json"\n'
        )
        url = f"http://{HOST}:{target.port}/v1/chat/completions"
        before_s = one.process.cpu_s()
        process = await asyncio.create_subprocess_exec(
            *("wrk", "-t1", f"-c{CONNECTIONS}", f"-d{max(1, round(rig.seconds))}s", "-s", str(script), url),
            stdout=asyncio.subprocess.PIPE,
        )
        out = (await process.communicate())[0].decode()
        spent_s = one.process.cpu_s() - before_s
        requests = re.search(r"(\d+) requests in", out)
        if requests is None or "Non-2xx" in out:
            raise RuntimeError(f"wrk did not get the answers that were hoped for: {out[-600:]}")
        samples.append(("wrk-cpu", side, spent_s / int(requests[1]) * 1e6))
    return samples


async def limits(rig: Rig) -> list[Sample]:
    """What limits add to the CPU of a call, beside the same call without any; in a process of its own."""

    async def cost(*words: str) -> float:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "dev.bench.limits", *words), cwd=TOOLS, stdout=asyncio.subprocess.PIPE
        )
        out = (await process.communicate())[0]
        if process.returncode:
            raise RuntimeError(f"dev.bench.limits {' '.join(words)} ended with {process.returncode}.")
        return float(out)

    without = await cost("off", "1")
    rows = ["limits-memory", "limits-redis-1", "limits-redis-8", "limits-redis-32"]
    samples: list[Sample] = [(row, Side.YARDSTICK, without) for row in rows]
    if rig.node is None:
        return samples
    samples.append(("limits-memory", Side.NODE, await cost("memory", "1")))
    with redis_server(rig.folder) as url:
        samples += [(row, Side.NODE, await cost("redis", row.rpartition("-")[2], url)) for row in rows[1:]]
    return samples


async def keys(rig: Rig) -> list[Sample]:
    """What finding a key costs among many, beside the same among ten; in a process of its own for each."""
    samples: list[Sample] = []
    sides = [(Side.YARDSTICK, 10)]
    if rig.node is not None:
        sides.append((Side.NODE, rig.streams * KEYS_OF_A_STREAM))
    for side, count in sides:
        with tempfile.TemporaryDirectory(dir=rig.folder) as name:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "dev.bench.keys", str(count), str(Path(name) / "keys.db")),
                cwd=TOOLS,
                stdout=asyncio.subprocess.PIPE,
            )
            out = (await process.communicate())[0]
        if process.returncode:
            raise RuntimeError(f"dev.bench.keys {count} ended with {process.returncode}.")
        samples += [(f"keys-{kind}", side, float(us)) for kind, us in orjson.loads(out).items()]
    return samples


async def memory_streams(rig: Rig) -> list[Sample]:
    """Reads resident memory while streams are open that send one chunk a second each."""
    samples: list[Sample] = []
    for side, one in rig.sides("byte-relay"):
        async with open_streams(_target(one, LONG, stream=True), rig.streams):
            await asyncio.sleep(2 * SETTLE_S)
            samples.append(("memory-streams", side, one.process.rss_bytes() / 1e6))
    return samples


def _target(server: Started, model: str, *, stream: bool = False) -> Target:
    return Target(server.port, server.authorization, model, stream)


# Memory comes first where the processes must be fresh, and last where they will not be afterwards.
PARTS = (
    Part("memory-idle", ("memory-idle",), memory_idle, once=True),
    Part("ready", ("ready-first", "ready-again"), ready),
    Part("rest", ("rest-cpu", "rest-rate"), rest),
    Part("latency", ("latency-p50", "latency-p99"), latency),
    Part("wrk", ("wrk-cpu",), wrk),
    Part("chunk", ("chunk-cpu",), chunk),
    Part("chunk8", ("chunk8-cpu",), chunk8),
    Part("grpc", ("grpc-cpu", "grpc-rate"), grpc),
    Part("limits", ("limits-memory", "limits-redis-1", "limits-redis-8", "limits-redis-32"), limits),
    Part("keys", ("keys-warm", "keys-cold"), keys, once=True),
    Part("memory-streams", ("memory-streams",), memory_streams, once=True),
)
