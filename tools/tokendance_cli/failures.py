"""How a command fails: one clear line, what to try next, and an exit code that scripts can rely on."""

from __future__ import annotations

import sys

FAILED = 1
USAGE = 2
UNREACHABLE = 3
INTERRUPTED = 130

EXIT_CODES = (
    "Exit codes: 0 done; 1 the gateway refused the call, or the node could not start; 2 wrong usage or settings; "
    "3 nothing answers: no node is running, or the gateway cannot be reached; 130 interrupted."
)

REQUEST_ID_LABEL = "TOKENDANCE_REQUEST_ID"


class CommandError(Exception):
    """A command cannot go on. `hints` are further lines: what to check, what to run. `code` is the gateway's own."""

    def __init__(
        self, message: str, *hints: str, exit_code: int = FAILED, request_id: str | None = None, code: str = ""
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hints = hints
        self.exit_code = exit_code
        self.request_id = request_id
        self.code = code

    def show(self) -> None:
        """Print to standard error: the line, the hints, and the request id where there is one."""
        print(f"tokendance: {printable(self.message)}", file=sys.stderr)
        for hint in self.hints:
            print(f"  {printable(hint)}", file=sys.stderr)
        show_request_id(self.request_id)


def show_request_id(request_id: str | None) -> None:
    """Print the request id as support asks for it, on standard error, so that output stays clean."""
    if request_id:
        print(f"{REQUEST_ID_LABEL}={printable(request_id)}", file=sys.stderr)


def printable(text: str) -> str:
    """Return text of somebody else without what could move the cursor or colour the terminal."""
    if text.isprintable():
        return text
    return "".join(
        letter if letter.isprintable() or letter in "\n\t" else "\N{REPLACEMENT CHARACTER}" for letter in text
    )
