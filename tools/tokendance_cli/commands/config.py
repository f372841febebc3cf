"""`tokendance config`: the working configuration of a client for this gateway, printed or written."""

from __future__ import annotations

import difflib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tokendance_cli.commands.models import BaseUrl
from tokendance_cli.failures import FAILED, USAGE, CommandError
from tokendance_cli.output import Format, FormatOption, form_of, print_json
from tokendance_cli.tenant_words import Yes, agree

if TYPE_CHECKING:
    from tokendance.client_configs import ClientConfig, ConfigFile, Values

_NAMES = "codex, claude-code, opencode, aider, continue, python, node, langchain, agenthub, tokendancecode, ci"
_MODEL_VARIABLE = "TOKENDANCE_MODEL"
_PLACEHOLDER = "your-model"
_BACKUP = ".before-tokendance"
_CODEX_HOME = "~/.codex/"


def config(
    context: typer.Context,
    client: Annotated[str, typer.Argument(help=f"One of: {_NAMES}.", metavar="CLIENT", show_default=False)],
    *,
    base_url: BaseUrl = None,
    model: Annotated[
        str,
        typer.Option(help=f"The model; else that of {_MODEL_VARIABLE}.", envvar=_MODEL_VARIABLE, show_default=False),
    ] = "",
    write: Annotated[bool, typer.Option("--write", help="Write the files, after asking.")] = False,
    project: Annotated[
        Path, typer.Option(help="Where files of a project are written.", file_okay=False, show_default=False)
    ] = Path(),
    yes: Yes = False,
    form: FormatOption = None,
) -> None:
    """Print the configuration of a client for this gateway, or write it. The key stays in the environment."""
    from tokendance.client_configs import BY_NAME, Values, render
    from tokendance_cli.rest import base_url_of

    chosen = BY_NAME.get(client)
    if chosen is None:
        raise CommandError(f"There is no client {client!r}.", f"There are: {_NAMES}.", exit_code=USAGE)
    values = Values(base_url_of(base_url), model or _PLACEHOLDER, _grpc_target())
    try:
        files = render(chosen, values)
    except ValueError as error:
        raise CommandError(f"{error}.", exit_code=USAGE) from error
    if not model and not write:
        print(f"{_PLACEHOLDER} stands for your model: name it with --model or {_MODEL_VARIABLE}.", file=sys.stderr)
    if not write:
        _show(chosen, files, values, form_of(context, form))
        return
    if not model:
        raise CommandError(
            "Name the model that is to be written.", "Give --model, or set TOKENDANCE_MODEL.", exit_code=USAGE
        )
    for one in files:
        _write(one, project, yes=yes)
    _tell_how(chosen, values)


def _grpc_target() -> str:
    from tokendance.connection import DEFAULT_TARGET

    return os.environ.get("TOKENDANCE_GRPC_TARGET", "").strip() or DEFAULT_TARGET


def _show(client: ClientConfig, files: list[ConfigFile], values: Values, form: Format) -> None:
    from tokendance.client_configs import fill

    if form is Format.JSON:
        documents = [{"path": one.path, "language": one.language, "text": one.text} for one in files]
        print_json({"client": client.name, "files": documents, "run": fill(client.run, values)})
        return
    for place, one in enumerate(files):
        # To standard error, so that one file can be redirected to where it belongs.
        print(f"{chr(10) if place else ''}{one.path}:\n", file=sys.stderr, flush=True)
        print(one.text, end="", flush=True)
    _tell_how(client, values)


def _tell_how(client: ClientConfig, values: Values) -> None:
    from tokendance.client_configs import fill

    if client.run:
        print("\nThen:\n", file=sys.stderr)
        for line in fill(client.run, values).splitlines():
            print(f"  {line}", file=sys.stderr)
    if not os.environ.get("TOKENDANCE_API_KEY"):
        print("\nTOKENDANCE_API_KEY is not set here; it is what the client will look for.", file=sys.stderr)


def _place(path: str, project: Path) -> Path:
    """Return where a file belongs on this machine."""
    codex = os.environ.get("CODEX_HOME", "").strip()
    if codex and path.startswith(_CODEX_HOME):
        return Path(codex, path.removeprefix(_CODEX_HOME))
    return Path(path).expanduser() if path.startswith("~") else project / path


def _write(one: ConfigFile, project: Path, *, yes: bool) -> None:
    """Write one file after asking; what was there stays beside it."""
    path = _place(one.path, project)
    try:
        before = path.read_text(encoding="utf-8") if path.exists() else None
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(f"{path} cannot be read: {error}.", exit_code=FAILED) from error
    if before == one.text:
        print(f"{path} is as it should be.", file=sys.stderr)
        return
    backup = path.with_name(path.name + _BACKUP)
    if before is None:
        agree(f"{path} is written.", yes=yes)
    else:
        if backup.exists():
            raise CommandError(f"{path} differs, and {backup} is there already.", "Move one of them away first.")
        lines = difflib.unified_diff(before.splitlines(True), one.text.splitlines(True), str(path), "new")
        print("".join(line if line.endswith("\n") else f"{line}\n" for line in lines), end="", file=sys.stderr)
        agree(f"{path} is replaced as a whole, as shown; what it is now is kept as {backup.name}.", yes=yes)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if before is not None:
            path.replace(backup)
        path.write_text(one.text, encoding="utf-8")
    except OSError as error:
        raise CommandError(f"{path} cannot be written: {error.strerror}.", exit_code=FAILED) from error
    print(f"{path} is written.", file=sys.stderr)
