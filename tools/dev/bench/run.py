"""One run: starts what is needed, takes turns, keeps every sample and every failure, ends what it started."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import tempfile
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .node import Node, start_node, write_config
from .parts import MODELS, PARTS, Part, Rig
from .processes import Cores, start
from .rows import Side
from .yardsticks import YARDSTICKS

# Each open stream takes two descriptors in a server; the rest is room for everything else.
SPARE_DESCRIPTORS = 500


@dataclass(frozen=True)
class Plan:
    """What to measure and how long: each part `rounds` times, for about `seconds` a side."""

    parts: Sequence[Part]
    rounds: int
    seconds: float
    streams: int
    node: bool


@dataclass
class Outcome:
    """All samples, by row and side in the order of rounds, and what could not be measured and why."""

    samples: dict[tuple[str, Side], list[float]] = field(default_factory=lambda: defaultdict(list))
    failures: dict[str, str] = field(default_factory=dict)


def chosen(names: Sequence[str]) -> list[Part]:
    """The parts that have a name, or a row's name, among `names`; all of them if there are none.

    Leaves out wrk where there is none. Raises ValueError for a name that is no part's and no row's.
    """
    known = {name for part in PARTS for name in (part.name, *part.rows)}
    for name in names:
        if name not in known:
            raise ValueError(f"There is no row {name!r}; there are {', '.join(sorted(known))}.")
    here = [part for part in PARTS if part.name != "wrk" or shutil.which("wrk")]
    return [part for part in here if not names or {part.name, *part.rows} & set(names)]


async def run(plan: Plan, cores: Cores, step: Callable[[str], None]) -> Outcome:
    """Measures; `step` is told what begins, once for each round of each part."""
    outcome = Outcome()
    _allow_descriptors(2 * plan.streams + SPARE_DESCRIPTORS)
    if cores.load:
        os.sched_setaffinity(0, cores.load)
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        simulator = start("dev.simulator", [], cores.load, folder / "simulator.log")
        stack.enter_context(simulator.process)
        upstream = f"http://127.0.0.1:{simulator.port}/v1"
        yardsticks = {}
        for name in YARDSTICKS:
            arguments = [name, "--upstream", upstream]
            yardsticks[name] = start("dev.bench.yardsticks", arguments, cores.servers, folder / f"{name}.log")
            stack.enter_context(yardsticks[name].process)
        write_config(folder, upstream, MODELS)
        node: Node | None = None
        if plan.node:
            try:
                node = stack.enter_context(await start_node(folder, cores.servers))
            except (OSError, RuntimeError) as error:
                outcome.failures["node"] = str(error)
        rig = Rig(simulator, yardsticks, node, cores, folder, plan.seconds, plan.streams)
        for part in plan.parts:
            await _measure(part, 1 if part.once else plan.rounds, rig, outcome, step)
    return outcome


async def _measure(part: Part, rounds: int, rig: Rig, outcome: Outcome, step: Callable[[str], None]) -> None:
    for number in range(rounds):
        step(f"{part.name}, round {number + 1} of {rounds}")
        if part.name in outcome.failures:
            continue
        try:
            samples = await part.measure(rig)
        except (OSError, RuntimeError, TimeoutError) as error:
            outcome.failures[part.name] = f"{type(error).__name__}: {error}"
            continue
        for row, side, value in samples:
            outcome.samples[row, side].append(value)


def _allow_descriptors(count: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < count:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(count, hard), hard))
