"""`tokendance keys scan`: keys that lie about in files, told by what the gateway says of them."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tokendance_cli.failures import FAILED, USAGE, CommandError, printable
from tokendance_cli.output import Format, FormatOption, form_of, print_json, print_rows

if TYPE_CHECKING:
    from tokendance_cli.key_scan import Find, Tally

_EVERY_S = 2.0
_MOST_ASKED = 1000
_LOOKS_REAL = "looks real"
# What has ended for good does no harm any more; what is unknown here may work at another gateway.
_HARMLESS = frozenset({"key_revoked", "key_expired"})


def scan_files(
    context: typer.Context,
    paths: Annotated[list[Path], typer.Argument(metavar="PATH…", help="Files and folders; - is the standard input.")],
    *,
    offline: Annotated[bool, typer.Option("--offline", help="Ask no gateway which of the keys are real.")] = False,
    data_dir: Annotated[
        Path | None, typer.Option("--data-dir", help="The node's data directory.", show_default=False)
    ] = None,
    form: FormatOption = None,
) -> None:
    """Find keys in files, and tell which are real, without printing them.

    Exit codes: 0 no key that works was found; 1 there is one, or one that looks real and nobody could be asked, or a
    file could not be read; 2 wrong usage.
    """
    from tokendance_cli.key_scan import Tally, scan

    for path in paths:
        if str(path) != "-" and not path.exists():
            raise CommandError(f"There is no {path}.", exit_code=USAGE)
    tally = Tally()
    finds = list(scan(paths, tally, _note, _Progress(tally).looked))
    verdicts = {} if offline or not finds else _ask(context, data_dir, finds)
    rows = [(find, *verdicts.get(find.secret, (_LOOKS_REAL, ""))) for find in finds]
    print(
        f"Scanned {tally.files} files ({tally.size / 1e6:.1f} MB), skipped {tally.skipped}, could not read "
        f"{tally.unread}; found {len(finds)} places.",
        file=sys.stderr,
    )
    if form_of(context, form) is Format.JSON:
        print_json(
            [
                {"path": one.path, "line": one.line, "column": one.column, "secret": one.shown, "is": told, "key": key}
                for one, told, key in rows
            ]
        )
    else:
        cells = [[f"{one.path}:{one.line}:{one.column}", one.shown, told, key] for one, told, key in rows]
        print_rows(["place", "secret", "is", "key"], cells, empty="There is no key in there.")
    harmful = [told for _, told, _ in rows if told not in _HARMLESS]
    if harmful or tally.unread:
        if harmful:
            print("Rotate what works first: `tokendance keys leaked KEY`.", file=sys.stderr)
        raise typer.Exit(FAILED)


def _ask(context: typer.Context, data_dir: Path | None, finds: Sequence[Find]) -> dict[str, tuple[str, str]]:
    """Return what the gateway says of each secret, and whose key it is; nothing for those that it was not asked of."""
    from tokendance.gateway.v1 import keys_service_pb2 as pb
    from tokendance_cli.node_client import admin_client

    secrets = list(dict.fromkeys(find.secret for find in finds))
    if len(secrets) > _MOST_ASKED:
        _note(f"More than {_MOST_ASKED} keys were found; the gateway is asked about the first ones only")
    verdicts: dict[str, tuple[str, str]] = {}
    try:
        with admin_client(context, data_dir) as client:
            for secret in secrets[:_MOST_ASKED]:
                answer = client.stubs.keys.CheckKey(pb.CheckKeyRequest(secret=secret))
                told = "works" if answer.valid else answer.code
                # A well-formed secret that nobody knows may be one of another gateway.
                verdicts[secret] = (told if answer.key.name else "unknown here", answer.key.name)
    except CommandError as error:
        _note(f"The gateway could not be asked which keys are real ({error.message})")
    return verdicts


class _Progress:
    """Tells every other second how far the scan is."""

    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self._due = time.monotonic() + _EVERY_S

    def looked(self) -> None:
        """Take note of one more file."""
        if time.monotonic() >= self._due:
            self._due = time.monotonic() + _EVERY_S
            print(f"… {self._tally.files} files scanned", file=sys.stderr)


def _note(line: str) -> None:
    print(f"tokendance: {printable(line)}", file=sys.stderr)
