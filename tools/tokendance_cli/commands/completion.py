"""`tokendance completion`: the script that teaches a shell the commands."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer


class Shell(StrEnum):
    """The shells that can be taught."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"
    POWERSHELL = "powershell"


def completion(shell: Annotated[Shell, typer.Argument(help="The shell to teach.")]) -> None:
    """Print the completion script of a shell: `source <(tokendance completion bash)`."""
    from typer.completion import get_completion_script  # type: ignore[attr-defined]  # there, but not re-exported

    print(get_completion_script(prog_name="tokendance", complete_var="_TOKENDANCE_COMPLETE", shell=shell.value))
