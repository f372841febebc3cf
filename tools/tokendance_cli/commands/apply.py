"""`tokendance apply` and `tokendance diff`: what a file declares, on the node that runs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tokendance_cli.failures import FAILED, USAGE, CommandError, printable
from tokendance_cli.output import Format, FormatOption, form_of, print_json

if TYPE_CHECKING:
    from tokendance import Client
    from tokendance_cli.catalogue_file.plan import Plan
    from tokendance_cli.catalogue_file.schema import Declared
    from tokendance_cli.catalogue_file.send import Outcome

SAME, DIFFERS, INVALID = 0, 1, 2

File = Annotated[
    Path, typer.Option("--file", "-f", help="The YAML file that declares providers, models and organizations.")
]
Prune = Annotated[bool, typer.Option("--prune", help="Delete what the node has and the file does not name.")]
DataDir = Annotated[Path | None, typer.Option("--data-dir", help="The node's data directory.", show_default=False)]


def diff(
    context: typer.Context, *, file: File, prune: Prune = False, data_dir: DataDir = None, form: FormatOption = None
) -> None:
    """Show how the node differs from a file, and change nothing. Exit code 0: not at all; 1: it does; 2: invalid."""
    from tokendance_cli.catalogue_file.show import document as change_document
    from tokendance_cli.catalogue_file.show import entry_document, left_alone, show_plan, summary
    from tokendance_cli.node_client import admin_client

    declared = _read(file)
    try:
        with admin_client(context, data_dir) as client:
            plan = _plan(client, declared, prune=prune)
    except CommandError as error:
        # 1 would say that something differs, which nobody knows.
        error.exit_code = INVALID if error.exit_code == FAILED else error.exit_code
        raise
    if form_of(context, form) is Format.JSON:
        only_there = [entry_document(one) for one in plan.only_there]
        print_json({"changes": [change_document(one) for one in plan.changes], "not_in_file": only_there})
    else:
        show_plan(plan)
        print(f"{summary(plan.changes)}." if plan.changes else "Nothing to change.")
    if plan.only_there and not prune:
        _say(left_alone(plan.only_there))
    raise typer.Exit(DIFFERS if plan.changes else SAME)


def apply(
    context: typer.Context,
    *,
    file: File,
    prune: Prune = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be done, and do nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    data_dir: DataDir = None,
    form: FormatOption = None,
) -> None:
    """Bring the node to what a file declares: providers, models, organizations. A second time nothing is to change."""
    from tokendance_cli.catalogue_file.send import send_plan
    from tokendance_cli.catalogue_file.show import left_alone, show_plan, summary, told_done
    from tokendance_cli.node_client import admin_client

    declared = _read(file)
    json_form = form_of(context, form) is Format.JSON
    with admin_client(context, data_dir) as client:
        plan = _plan(client, declared, prune=prune)
        if not json_form:
            show_plan(plan)
        if plan.only_there and not prune:
            _say(left_alone(plan.only_there))
        if not plan.changes or dry_run:
            if json_form:
                _print_outcome(plan, None)
            else:
                print(f"{summary(plan.changes)}; nothing was done." if plan.changes else "Nothing to change.")
            return
        if not yes:
            _confirm(summary(plan.changes))
        outcome = send_plan(
            client, plan.changes, lambda change: None if json_form else print(told_done(change)), plan.kept
        )
    if json_form:
        _print_outcome(plan, outcome)
    if outcome.failure is not None:
        raise _failed(declared, outcome)


def _read(file: Path) -> Declared:
    from tokendance_cli.catalogue_file.schema import InvalidFileError, read_file

    try:
        return read_file(file)
    except InvalidFileError as error:
        raise CommandError(f"{error}:", *error.lines, exit_code=INVALID) from error
    except OSError as error:
        raise CommandError(f"{file} cannot be read: {error.strerror}.", exit_code=INVALID) from error


def _plan(client: Client, declared: Declared, *, prune: bool) -> Plan:
    from tokendance_cli.catalogue_file.entries import declared_entries, kept_entries
    from tokendance_cli.catalogue_file.people_entries import declared_people, kept_people, team_problems
    from tokendance_cli.catalogue_file.plan import make_plan
    from tokendance_cli.catalogue_file.positions import Problem
    from tokendance_cli.catalogue_file.send import refused_by_node

    people, unclear = kept_people(client, declared)
    kept = [*kept_entries(client), *people]
    plan = make_plan(declared, [*declared_entries(declared), *declared_people(declared)], kept, prune=prune)
    unclear += team_problems(declared, {(one.kind, one.name): one for one in people})
    refused = [
        Problem(declared.document.place_of(one.path), f"{one.change.entry.title}: {one.error.message}")
        for one in refused_by_node(client, plan.changes)
    ]
    if plan.problems or refused or unclear:
        lines = [problem.told(declared.file) for problem in sorted({*plan.problems, *refused, *unclear})]
        raise CommandError(f"{declared.file} does not fit this node:", *lines, exit_code=INVALID)
    return plan


def _confirm(summed: str) -> None:
    if not sys.stdin.isatty():
        raise CommandError(
            f"{summed}: nothing was done, for nobody is there to be asked.",
            "Add --yes to do it without a question, or --dry-run only to see it.",
            exit_code=USAGE,
        )
    if not typer.confirm(f"{summed}. Go on?", err=True):
        raise CommandError("Nothing was done.", exit_code=FAILED)


def _print_outcome(plan: Plan, outcome: Outcome | None) -> None:
    from tokendance_cli.catalogue_file.show import document, entry_document

    done = len(outcome.done) if outcome else 0
    failed = done if outcome and outcome.failure else None
    changes = []
    for number, change in enumerate(plan.changes):
        state = "done" if number < done else "failed" if number == failed else "not_tried"
        changes.append(document(change) | {"state": state})
        if outcome and outcome.failure and number == failed:
            error = outcome.failure.error
            state = "unknown" if outcome.failure.unsure else "failed"
            changes[-1] |= {"state": state, "error": {"code": error.code, "message": error.message}}
    print_json({"changes": changes, "not_in_file": [entry_document(one) for one in plan.only_there]})


def _failed(declared: Declared, outcome: Outcome) -> CommandError:
    failure = outcome.failure
    assert failure is not None  # asked only then
    error, title = failure.error, failure.change.entry.title
    place = declared.document.place_of(failure.path)
    where = f"{declared.file}:{place.line}:{place.column}: " if failure.path else ""
    lines = [f"{where}{failure.change.action} {title}: {error.code}: {error.message}"]
    if failure.unsure:
        lines.append("Whether this one was done is not known: `tokendance diff` tells.")
    lines.append(f"Done before it: {', '.join(one.entry.title for one in outcome.done) or 'nothing'}.")
    if outcome.not_tried:
        lines.append(f"Not tried: {', '.join(one.entry.title for one in outcome.not_tried)}.")
    total = len(outcome.done) + 1 + len(outcome.not_tried)
    return CommandError(
        f"{len(outcome.done)} of {total} changes are done, then one failed:", *lines, request_id=error.request_id
    )


def _say(sentence: str) -> None:
    print(printable(sentence), file=sys.stderr)
