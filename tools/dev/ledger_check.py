"""Checks a node's ledger: what clients saw, what the upstream was asked, and what is in the database must agree.

    python tools/dev/ledger_check.py --client calls.jsonl --upstream http://127.0.0.1:9000 --database gateway.db

Each call has a name of its own, which the client sends as `user` and at the start of its last message. A line of the
client's log is `{"call", "status", "complete", "usage": [prompt, answer] or null}`. The upstream is the simulator, or a
file with its log; the database is a node's SQLite file, at rest. Exit code 1, with a line for each fault, where
something does not agree.
"""

from __future__ import annotations

import argparse
import json
import sqlite3
import sys
import urllib.request
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SUCCEEDED, FAILED, UNKNOWN = 1, 3, 5
"""Numbers of RequestOutcome, checked by the tests: this tool reads rows, and nothing of the product."""


@dataclass(frozen=True)
class Seen:
    """A call as its client saw it. `usage` are the tokens of prompt and answer that it was told, None: it was not."""

    call: str
    status: int
    complete: bool
    usage: tuple[int, int] | None = None


@dataclass(frozen=True)
class Asked:
    """A call as the upstream saw it, with the tokens that it counted."""

    call: str
    tokens: tuple[int, int]


@dataclass(frozen=True)
class Attempt:
    """A row of usage_attempts, with the `user` of its request."""

    record: str
    call: str
    outcome: int
    tokens: tuple[int, int]
    estimated: bool
    cost: int | None


@dataclass(frozen=True)
class Row:
    """A row of usage_records."""

    record: str
    call: str
    outcome: int
    tokens: tuple[int, int]
    cost: int | None
    attempts: int


@dataclass(frozen=True)
class Books:
    """What the database holds; `sums` are requests, prompt tokens, answer tokens and cost over all days, and hours."""

    rows: Sequence[Row]
    attempts: Sequence[Attempt]
    sums: Sequence[tuple[int, int, int, int]]


@dataclass(frozen=True)
class Balance:
    """A limit as it stands after the last lease: what it counts, spent and held."""

    metric: str
    spent: int
    held: int


def check(seen: Iterable[Seen], asked: Iterable[Asked], books: Books, balances: Iterable[Balance] = ()) -> list[str]:
    """Return what does not agree, a sentence each; none where the ledger is right."""
    upstream: dict[str, list[Asked]] = defaultdict(list)
    for one in asked:
        upstream[one.call].append(one)
    return [
        *_rows_once(books),
        *_attempts_against_upstream(upstream, books),
        *_clients_against_rows(seen, books),
        *_sums(books),
        *_balances(balances, books),
    ]


def _rows_once(books: Books) -> Iterable[str]:
    for record, count in Counter(one.record for one in books.rows).items():
        if count > 1:
            yield f"{record} has {count} rows"
    attempts = Counter(one.record for one in books.attempts)
    for row in books.rows:
        if attempts[row.record] != row.attempts:
            yield f"{row.record} says {row.attempts} attempts and has {attempts[row.record]} rows of them"
    for record in attempts.keys() - {one.record for one in books.rows}:
        yield f"{record} has attempts and no row of its own"


def _attempts_against_upstream(upstream: Mapping[str, Sequence[Asked]], books: Books) -> Iterable[str]:
    attempts: dict[str, list[Attempt]] = defaultdict(list)
    for one in books.attempts:
        attempts[one.call].append(one)
    for call in sorted(upstream.keys() | attempts.keys()):
        known, rows = upstream.get(call, ()), attempts.get(call, ())
        # Who dies between the journal and the upstream has an attempt that never got there: charged as unknown.
        unsure = sum(row.outcome == UNKNOWN for row in rows)
        if not len(known) <= len(rows) <= len(known) + unsure:
            yield f"{call} reached the upstream {len(known)} times and has {len(rows)} attempts"
            continue
        believed = [row for row in rows if not row.estimated and row.outcome == SUCCEEDED]
        left = Counter(one.tokens for one in known)
        for row in believed:
            if not left[row.tokens]:
                yield f"{call} is charged {row.tokens} as the provider's word, which counted {dict(left)}"
            left[row.tokens] -= 1
        for row in rows:
            if row.outcome == UNKNOWN and not row.estimated:
                yield f"{call} is unknown and not flagged as an estimate"
    told = sum(sum(one.tokens) for one in books.attempts if not one.estimated and one.outcome == SUCCEEDED)
    matched = [one.call for one in books.attempts if not one.estimated and one.outcome == SUCCEEDED]
    counted = sum(sum(upstream[call][0].tokens) for call in matched if upstream.get(call))
    if told != counted:
        yield f"attempts with the provider's word sum up to {told} tokens, the upstream to {counted}"


def _clients_against_rows(seen: Iterable[Seen], books: Books) -> Iterable[str]:
    rows: dict[str, list[Row]] = defaultdict(list)
    for row in books.rows:
        rows[row.call].append(row)
    for one in seen:
        known = rows.get(one.call, [])
        if one.complete and len(known) != 1:
            yield f"{one.call} was answered with {one.status} and has {len(known)} rows"
        elif one.complete and one.status == 200:
            (row,) = known
            if row.outcome != SUCCEEDED:
                yield f"{one.call} was answered whole and its row says outcome {row.outcome}"
            if one.usage is not None and one.usage != row.tokens:
                yield f"{one.call} was told {one.usage} and is charged {row.tokens}"
        elif len(known) > 1:
            yield f"{one.call} was cut off and has {len(known)} rows"


def _sums(books: Books) -> Iterable[str]:
    rows = books.rows
    whole = (
        len(rows),
        sum(row.tokens[0] for row in rows),
        sum(row.tokens[1] for row in rows),
        sum(row.cost or 0 for row in rows),
    )
    for name, sums in zip(("days", "hours"), books.sums, strict=True):
        if sums != whole:
            yield f"the sums by {name} are {sums}, the records {whole}"
    parts = sum(one.cost or 0 for one in books.attempts)
    if parts != whole[3]:
        yield f"the attempts cost {parts} micro-USD, the records {whole[3]}"


def _balances(balances: Iterable[Balance], books: Books) -> Iterable[str]:
    # A call of which nothing came is given back whole.
    charged = [row for row in books.rows if row.attempts and (row.outcome != FAILED or any(row.tokens))]
    spent = {
        "requests": len(charged),
        "input_tokens": sum(row.tokens[0] for row in charged),
        "output_tokens": sum(row.tokens[1] for row in charged),
        "total_tokens": sum(sum(row.tokens) for row in charged),
        "cost_micros": sum(row.cost or 0 for row in charged),
    }
    for one in balances:
        if one.held:
            yield f"{one.held} of {one.metric} are held, and nothing runs"
        if one.metric in spent and one.spent != spent[one.metric]:
            yield f"{one.spent} of {one.metric} are spent, the rows sum up to {spent[one.metric]}"


def read_books(file: Path) -> Books:
    """Return what a node's SQLite file holds."""
    with sqlite3.connect(f"file:{file}?mode=ro", uri=True) as database:
        rows = [
            Row(record, call, outcome, (given, used), cost, attempts)
            for record, call, outcome, given, used, cost, attempts in database.execute(
                "SELECT id, user_name, outcome, input_tokens, output_tokens, cost_micros, attempt_count "
                "FROM usage_records"
            )
        ]
        calls = {row.record: row.call for row in rows}
        attempts = [
            Attempt(record, calls.get(record, ""), outcome, (given, used), bool(estimated), cost)
            for record, outcome, given, used, estimated, cost in database.execute(
                "SELECT record_id, outcome, input_tokens, output_tokens, estimated, cost_micros FROM usage_attempts"
            )
        ]
        measures = "coalesce(sum({}), 0)"
        columns = ", ".join(
            measures.format(one) for one in ("requests", "input_tokens", "output_tokens", "cost_micros")
        )
        sums = [
            tuple(database.execute(f"SELECT {columns} FROM {table}").fetchone())  # noqa: S608 - names of ours
            for table in ("usage_days", "usage_hours")
        ]
    return Books(rows, attempts, sums)


def read_upstream(log: Iterable[Mapping[str, Any]]) -> list[Asked]:
    """Return the calls in a simulator's log: each by the first word of its last message."""
    found = []
    for one in log:
        if one["method"] == "POST":
            content = json.loads(one["body"])["messages"][-1]["content"]
            # What it refused has no tokens, and was asked all the same.
            given, used = one["tokens"] or (0, 0)
            found.append(Asked(str(content).split()[0], (given, used)))
    return found


def read_client(lines: Iterable[str]) -> list[Seen]:
    """Return the calls in a client's log."""
    found = []
    for line in lines:
        one = json.loads(line)
        usage = one.get("usage")
        found.append(Seen(one["call"], one["status"], one["complete"], (usage[0], usage[1]) if usage else None))
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the check; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--client", type=Path, required=True, help="the client's log, a line of JSON a call")
    parser.add_argument("--upstream", required=True, help="the simulator's address, or a file with its log")
    parser.add_argument("--database", type=Path, required=True, help="the node's gateway.db")
    wanted = parser.parse_args(arguments)
    if wanted.upstream.startswith("http://"):
        with urllib.request.urlopen(f"{wanted.upstream}/_simulator/log", timeout=30) as answer:  # noqa: S310
            log = json.load(answer)
    else:
        log = json.loads(Path(wanted.upstream).read_text(encoding="utf-8"))
    books = read_books(wanted.database)
    faults = check(read_client(wanted.client.read_text(encoding="utf-8").splitlines()), read_upstream(log), books)
    for fault in faults:
        print(fault)
    print(f"{len(books.rows)} requests, {len(books.attempts)} attempts, {len(faults)} faults", file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
