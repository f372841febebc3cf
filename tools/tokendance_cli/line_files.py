"""Lines for a file of one's own, or for standard output."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tokendance_cli.failures import USAGE, CommandError


@contextmanager
def lines_to(path: Path | None, what: str) -> Iterator[Callable[[str], None]]:
    """Give what writes lines to standard output, or to a new file of mode 0600. Raises CommandError.

    `what` names the lines to people, in the plural.
    """
    if path is None:
        yield print
        return
    try:
        # Not over another file: an earlier export may be the only copy of what was removed since.
        opened = os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8")
    except OSError as error:
        raise CommandError(f"The file {path} cannot be made: {error.strerror}.", exit_code=USAGE) from error
    with opened:
        yield lambda text: print(text, file=opened)
    print(f"The {what} are in {path}.", file=sys.stderr)
