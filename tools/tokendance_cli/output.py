"""How results look: rich tables on a terminal, plain unwrapped columns in a pipe, JSON for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from tokendance_cli.failures import printable

_LEAST_SENTENCE = 24


class Format(StrEnum):
    """The forms of a result."""

    TABLE = "table"
    JSON = "json"


class Globals:
    """The options before the command's name."""

    def __init__(self, data_dir: Path, form: Format, context: str = "") -> None:
        self.data_dir = data_dir
        self.format = form
        self.context = context


FormatOption = Annotated[
    Format | None, typer.Option("--format", help="How to print: table or json.", show_default=False)
]


def form_of(context: typer.Context, form: Format | None) -> Format:
    """Return the form asked for: by the command's own option, else by the one before its name."""
    return form or globals_of(context).format


def globals_of(context: typer.Context) -> Globals:
    """Return the options before the command's name."""
    found = context.find_object(Globals)
    if found is None:
        raise RuntimeError("the command runs outside of the application")
    return found


def data_dir_flag(context: typer.Context) -> Path | None:
    """Return the option before the command's name where it was typed; variable and default have their own way."""
    source = context.find_root().get_parameter_source("data_dir")
    return globals_of(context).data_dir if source is not None and source.name == "COMMANDLINE" else None


def print_json(document: Any) -> None:
    """Print one JSON document."""
    print(json.dumps(document, indent=2, ensure_ascii=False))


def print_rows(columns: Sequence[str], rows: Sequence[Sequence[str]], *, empty: str) -> None:
    """Print a table; `empty` says on standard error that there is no row."""
    if not rows:
        print(empty, file=sys.stderr)
        return
    cells = [[_line(cell) for cell in row] for row in rows]
    if sys.stdout.isatty():
        _print_rich(columns, cells)
    else:
        _print_plain(columns, cells)


def print_record(pairs: Sequence[tuple[str, str]]) -> None:
    """Print one thing: a name and a value on each line; empty values are left out."""
    shown = [(name, _line(value)) for name, value in pairs if value]
    width = max((len(name) for name, _ in shown), default=0)
    for name, value in shown:
        print(f"{name:<{width}}  {value}")


def _line(cell: str) -> str:
    return " ".join(printable(cell).split())


def _print_rich(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    table = Table(box=None, header_style="bold", pad_edge=False)
    least = 0
    for place, column in enumerate(columns):
        lengths = [len(cell) for cell in (column, *(row[place] for row in rows))]
        # Sentences may be folded; ids, names and times are copied from here and stay whole.
        whole = not any(" " in row[place] for row in rows)
        table.add_column(column, overflow="fold", no_wrap=whole)
        least += 2 + (max(lengths) if whole else min(max(lengths), _LEAST_SENTENCE))
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    # A terminal that is too narrow breaks lines by itself, which leaves words whole where a table would cut them.
    console.width = max(console.width, least)
    console.print(table)


def _print_plain(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    header = [column.upper().replace(" ", "_") for column in columns]
    widths = [max(len(line[place]) for line in [header, *rows]) for place in range(len(columns))]
    for line in [header, *rows]:
        print("  ".join(f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True)).rstrip())
