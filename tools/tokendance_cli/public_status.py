"""The status as everybody reads it over REST: shown once, or followed by asking again."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from typing import Any

from tokendance_cli.failures import UNREACHABLE, CommandError
from tokendance_cli.output import Format, print_json, print_rows
from tokendance_cli.rest import Holder

ASKED_EVERY_S = 5.0
# They move all the time, and are no news.
_FIGURES = ("success_rate", "median_first_byte_ms", "history")


def show(holder: Holder, history_days: int, form: Format) -> None:
    """Print the state of now. Raises CommandError."""
    told = holder.get(f"/status?history_days={history_days}").document
    if form is Format.JSON:
        print_json(told)
    else:
        _print(told)


def follow(holder: Holder, form: Format) -> None:
    """Print the state of now and each change until interrupted; where nobody answers for a while, say so once."""
    before, silent = holder.get("/status").document, False
    print(json.dumps(before, ensure_ascii=False), flush=True) if form is Format.JSON else _print(before)
    try:
        while True:
            time.sleep(ASKED_EVERY_S)
            try:
                now = holder.get("/status").document
            except CommandError as error:
                if error.exit_code != UNREACHABLE:
                    raise
                if not silent:
                    print(f"{error.message} It is asked again.", file=sys.stderr, flush=True)
                silent = True
                continue
            silent = False
            lines = list(changes(before, now))
            before = now
            if lines and form is Format.JSON:
                print(json.dumps(now, ensure_ascii=False), flush=True)
            elif lines:
                print("\n".join(f"{now['time'][:19]}Z  {line}" for line in lines), flush=True)
    except KeyboardInterrupt:
        return


def changes(before: dict[str, Any], now: dict[str, Any]) -> Iterator[str]:
    """Yield what is new, a line each: the whole, models, incidents, maintenance."""
    if before["state"] != now["state"]:
        yield f"everything: {now['state']}"
    for kind, name, words in (("models", "id", "state"), ("incidents", "name", "phase"), ("maintenances", "name", "")):
        known = {one[name]: _plain(one) for one in before[kind]}
        for one in now[kind]:
            if known.pop(one[name], None) != _plain(one):
                told = (one[name], one.get(words, ""), one.get("title") or one.get("reason") or "")
                yield "  ".join(part for part in told if part)
        yield from (f"{gone}  over" for gone in known)


def _plain(one: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in one.items() if name not in _FIGURES}


def _print(told: dict[str, Any]) -> None:
    print(f"{told['state']}  {told['summary']}")
    for one in told["incidents"]:
        print(f"{one['name']}  {one['phase']}  {one['title']}")
    for one in told["maintenances"]:
        print(f"{one['name']}  {one['starts_at']} to {one['ends_at']}  {one['title']}")
    rows = [[one["id"], one["state"], one["since"], one["reason"] or ""] for one in told["models"]]
    print_rows(["model", "state", "since", "reason"], rows, empty="No model is public.")
    sys.stdout.flush()
