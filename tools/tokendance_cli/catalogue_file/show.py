"""How a plan looks: `+`, `~` and `-` before each entry and field, or a JSON document."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any

from tokendance_cli.catalogue_file.entries import Entry
from tokendance_cli.catalogue_file.plan import Action, Change, Plan
from tokendance_cli.failures import printable

_SIGNS = {Action.CREATE: "+", Action.UPDATE: "~", Action.DELETE: "-"}
_STYLES = {"+": "green", "~": "yellow", "-": "red"}
_DONE = {Action.CREATE: "created", Action.UPDATE: "changed", Action.DELETE: "deleted"}
_EMPTY: tuple[Any, ...] = (None, "", [], {})


def show_plan(plan: Plan) -> None:
    """Print every change, field by field."""
    lines = [line for change in plan.changes for line in _lines(change)]
    if not sys.stdout.isatty():
        for line in lines:
            print(line)
        return
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False)
    for line in lines:
        console.print(Text(line, style=_STYLES.get(line.lstrip()[:1], "")), soft_wrap=True)


def summary(changes: Sequence[Change]) -> str:
    """Return how many of each, such as `2 to create, 1 to change`."""
    counts = [(sum(one.action is action for one in changes), action) for action in Action]
    words = {Action.CREATE: "to create", Action.UPDATE: "to change", Action.DELETE: "to delete"}
    return ", ".join(f"{count} {words[action]}" for count, action in counts if count)


def left_alone(entries: Sequence[Entry]) -> str:
    """Return what to say of entries that only the node has."""
    return f"Not in the file and left as they are: {', '.join(one.title for one in entries)}; --prune deletes them."


def told_done(change: Change) -> str:
    """Return what to say of a change that was made, such as `created model fast`."""
    return f"{_DONE[change.action]} {printable(change.entry.title)}"


def document(change: Change) -> dict[str, Any]:
    """Return a change for programs."""
    return {
        "action": change.action.value,
        "kind": change.entry.kind,
        "name": change.entry.name,
        "fields": {
            name: {
                "before": change.before.fields.get(name) if change.before else None,
                "after": change.after.fields.get(name) if change.after else None,
            }
            for name in change.fields
        },
    }


def entry_document(entry: Entry) -> dict[str, str]:
    """Return what names an entry, for programs."""
    return {"kind": entry.kind, "name": entry.name}


def _lines(change: Change) -> list[str]:
    lines = [f"{_SIGNS[change.action]} {printable(change.entry.title)}"]
    for name in change.fields:
        before = change.before.fields.get(name) if change.before else None
        after = change.after.fields.get(name) if change.after else None
        if change.action is not Action.UPDATE:
            value = after if change.action is Action.CREATE else before
            lines += [] if value in _EMPTY else [f"    {name}: {_value(value)}"]
        elif before in _EMPTY:
            lines.append(f"  + {name}: {_value(after)}")
        elif after in _EMPTY:
            lines.append(f"  - {name}: {_value(before)}")
        else:
            lines.append(f"  ~ {name}: {_value(before)} -> {_value(after)}")
    return lines


def _value(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_value, value))}]"
    if isinstance(value, dict) and "upstream_model" in value:
        return f"{value['provider']}/{printable(value['upstream_model'])}{_share(value)}"
    if isinstance(value, str):
        return printable(value).replace("\n", "\\n").replace("\t", "\\t")
    return printable(json.dumps(value, ensure_ascii=False))


def _share(route: dict[str, Any]) -> str:
    parts = [f"weight {route['weight']}"] if route["weight"] != 1 else []
    parts += [f"priority {route['priority']}"] if route["priority"] else []
    shown = ("provider", "upstream_model", "weight", "priority")
    parts += [f"{name} {_value(value)}" for name, value in route.items() if name not in shown and value not in _EMPTY]
    return f" ({', '.join(parts)})" if parts else ""
