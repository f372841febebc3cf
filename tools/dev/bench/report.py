"""Turns samples into figures, and figures into JSON or a table; measures nothing."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
import statistics
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from .processes import Cores
from .rows import ROWS, STREAMS, Budget, Row, Side
from .run import Outcome, Plan

PACKAGES = ("aiohttp", "grpcio", "protobuf", "uvloop", "httptools", "orjson")
VERDICTS = {"pass": "[green]pass[/]", "miss": "[red]miss[/]", "none": "", "not measured": "[dim]not measured[/]"}


def describe_machine(cores: Cores) -> dict[str, str]:
    """Where and with what the figures came about."""
    names = [line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")]
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "commit": commit.stdout.strip() or "unknown",
        "machine": f"{len(names) or '?'} x {names[0] if names else platform.machine()}, {platform.system()}",
        "pinning": str(cores),
        "load": f"{os.getloadavg()[0]:.1f} before the run; other work makes CPU times longer and rates meaningless",
        "python": platform.python_version(),
        "packages": ", ".join(f"{name} {importlib.metadata.version(name)}" for name in PACKAGES),
    }


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []


def document(plan: Plan, outcome: Outcome, machine: dict[str, str]) -> dict[str, Any]:
    """The whole result: `machine`, `plan`, `rows` in the table's order, and `failures` by part."""
    measured = {name for part in plan.parts for name in part.rows}
    return {
        "machine": machine,
        "plan": {"rounds": plan.rounds, "seconds": plan.seconds, "streams": plan.streams, "node": plan.node},
        "rows": [_row(row, plan, outcome) for row in ROWS if row.name in measured],
        "failures": outcome.failures,
    }


def _row(row: Row, plan: Plan, outcome: Outcome) -> dict[str, Any]:
    yardstick = outcome.samples.get((row.name, Side.YARDSTICK), [])
    node = outcome.samples.get((row.name, Side.NODE), [])
    ratios = [ours / theirs for ours, theirs in zip(node, yardstick, strict=False) if theirs > 0]
    budget = row.budget if row.name != "memory-streams" or plan.streams == STREAMS else None
    return {
        "name": row.name,
        "what": row.what if row.name != "memory-streams" else f"Resident memory, {plan.streams} open streams",
        "unit": row.unit,
        "yardstick": {"name": row.yardstick, **(_summary(yardstick) or {})},
        "node": _summary(node),
        "ratio": _summary(ratios),
        "budget": None if budget is None else {"limit": budget.limit, "aim": budget.aim, "ratio": budget.ratio},
        "verdict": _verdict(budget, node, ratios),
    }


def _summary(values: Sequence[float]) -> dict[str, float | int] | None:
    """Median and spread; None if there is nothing to sum up."""
    if not values:
        return None
    return {"median": statistics.median(values), "least": min(values), "most": max(values), "rounds": len(values)}


def _verdict(budget: Budget | None, node: Sequence[float], ratios: Sequence[float]) -> str:
    if budget is None:
        return "none"
    values = ratios if budget.ratio else node
    if not values:
        return "not measured"
    return "pass" if statistics.median(values) <= budget.limit else "miss"


def print_table(result: dict[str, Any], console: Console) -> None:
    """The result for people."""
    for name, value in result["machine"].items():
        console.print(f"[dim]{name:9}[/] {value}", highlight=False)
    plan = result["plan"]
    caption = (
        f"Medians of {plan['rounds']} rounds of {plan['seconds']:g} s a side, in turns; in brackets the least and the"
        " most. A ratio is the node's figure over the yardstick's of the same round.\nCPU and rates are those of 32"
        " requests under way, upstream call included; latency is that of one at a time, less the upstream's own."
    )
    table = Table(caption=caption, caption_justify="left")
    for heading in ("what", "unit", "yardstick", "node", "ratio", "budget", ""):
        table.add_column(heading, justify="left" if heading in {"what", "unit", "yardstick", ""} else "right")
    rows = {row.name: row for row in ROWS}
    for figures in result["rows"]:
        row = rows[figures["name"]]
        budget = figures["budget"]
        table.add_row(
            figures["what"],
            row.unit,
            f"{_figure(figures['yardstick'], row.digits)} {row.yardstick}",
            _figure(figures["node"], row.digits),
            _figure(figures["ratio"], 2),
            "" if budget is None else str(Budget(**budget)),
            VERDICTS[figures["verdict"]],
        )
    console.print(table)
    for part, why in result["failures"].items():
        console.print(f"[red]{part} could not be measured:[/] ", end="")
        console.print(why, markup=False, highlight=False)


def _figure(summary: dict[str, Any] | None, digits: int) -> str:
    if not summary or "median" not in summary:
        return "-"
    text = f"{summary['median']:,.{digits}f}"
    if summary["rounds"] > 1:
        text += f" [dim]({summary['least']:,.{digits}f}-{summary['most']:,.{digits}f})[/]"
    return text
