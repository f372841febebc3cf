"""The command line of the bench."""

from __future__ import annotations

import argparse
import json
import sys

import uvloop
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from .processes import Cores
from .report import describe_machine, document, print_table
from .rows import ROWS, STREAMS
from .run import Outcome, Plan, chosen, run

WIDTH = 150


def main(arguments: list[str] | None = None) -> int:
    """Measures and prints. Returns 0 whatever the figures are, 1 if something could not be measured, 2 for bad use."""
    parser = argparse.ArgumentParser(prog="bench", description="Measures a node beside its yardsticks.")
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    parser.add_argument("--quick", action="store_true", help="one short round: a smoke run, no figures to quote")
    parser.add_argument("--rounds", type=int, help="rounds of each part [default: 5]")
    parser.add_argument("--seconds", type=float, help="load on each side in a round, in seconds [default: 1.2]")
    parser.add_argument("--streams", type=int, help=f"open streams of the memory row [default: {STREAMS}]")
    parser.add_argument("--only", action="append", default=[], metavar="ROW", help="a row or part; may be repeated")
    parser.add_argument("--no-node", action="store_true", help="measure the yardsticks only")
    parser.add_argument("--list", action="store_true", help="list the rows, and exit")
    options = parser.parse_args(arguments)
    if options.list:
        for row in ROWS:
            print(f"{row.name:15} {row.what}")
        return 0
    quick = options.quick
    rounds: int = options.rounds if options.rounds is not None else 1 if quick else 5
    seconds: float = options.seconds if options.seconds is not None else 0.2 if quick else 1.2
    streams: int = options.streams if options.streams is not None else 50 if quick else STREAMS
    try:
        _between(1, rounds, 50, "--rounds")
        _between(0.1, seconds, 30, "--seconds")
        _between(1, streams, 10_000, "--streams")
        plan = Plan(chosen(options.only), rounds, seconds, streams, not options.no_node)
    except ValueError as error:
        parser.error(str(error))
    cores = Cores.of_this_machine()
    machine = describe_machine(cores)
    result = document(plan, _run(plan, cores), machine)
    if options.json:
        print(json.dumps(result, indent=2))
    else:
        # Where nobody looks at it through a terminal of their own, a line of the table stays a line.
        print_table(result, Console() if sys.stdout.isatty() else Console(width=WIDTH))
    return 1 if result["failures"] else 0


def _between(least: float, value: float, most: float, name: str) -> None:
    if not least <= value <= most:
        raise ValueError(f"{name} must be between {least} and {most}.")


def _run(plan: Plan, cores: Cores) -> Outcome:
    """The run, with a progress bar on standard error."""
    columns = (TextColumn("{task.description:32}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    total = sum(1 if part.once else plan.rounds for part in plan.parts)
    with Progress(*columns, console=Console(file=sys.stderr), transient=True) as progress:
        task = progress.add_task("starting", total=total)
        begun = 0

        def step(what: str) -> None:
            nonlocal begun
            progress.update(task, description=what, completed=begun)
            begun += 1

        return uvloop.run(run(plan, cores, step))
