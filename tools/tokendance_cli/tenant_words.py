"""From the words of the commands on organizations, teams, members and policies to what is asked of the node."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tokendance_cli.failures import FAILED, USAGE, CommandError

if TYPE_CHECKING:
    from google.protobuf.message import Message

    from tokendance import Client


class Role(StrEnum):
    """What a member may do."""

    MEMBER = "member"
    ADMIN = "admin"
    AUDITOR = "auditor"


class Fate(StrEnum):
    """What happens to the keys of a member who is stopped or leaves."""

    SUSPEND = "suspend"
    REASSIGN = "reassign"
    REVOKE = "revoke"


DataDir = Annotated[Path | None, typer.Option("--data-dir", help="The node's data directory.", show_default=False)]
OrganizationArgument = Annotated[str, typer.Argument(help="Its id, or organizations/O.", metavar="ORGANIZATION")]
TeamArgument = Annotated[str, typer.Argument(help="Its id, or organizations/O/teams/T.", metavar="TEAM")]
MemberArgument = Annotated[str, typer.Argument(help="Its id, or organizations/O/members/M.", metavar="MEMBER")]
Of = Annotated[
    str,
    typer.Option("--organization", help="Its organization; may be left out where one is told.", show_default=False),
]
Etag = Annotated[
    str, typer.Option(help="Change this version only, as `show` names it; else the one just read.", show_default=False)
]
Reason = Annotated[str, typer.Option(help="Why, in a few words, for the audit trail.")]
RequestId = Annotated[
    str, typer.Option(help="Makes a repeat harmless: the same id never makes a second one.", show_default=False)
]
Labels = Annotated[
    list[str] | None,
    typer.Option("--label", help="A label NAME=VALUE, in place of all before. Repeatable.", show_default=False),
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Count what would go, and change nothing.")]
KeysFate = Annotated[
    Fate | None, typer.Option("--keys", help="What happens to its keys; else as the policy says.", show_default=False)
]
KeysOwner = Annotated[
    str, typer.Option("--keys-owner", help="Who gets the keys, for --keys reassign.", show_default=False)
]


def organization_of(client: Client, named: str, *names: str) -> str:
    """Return an organization's name: as named, as one of `names` tells, or the only one; raises CommandError."""
    from tokendance_cli.key_request import organization_of as told

    return told(client, named, next((name for name in names if "/" in name), ""), "")


def child(client: Client, collection: str, named: str, organization: str) -> str:
    """Return the resource name of a team or member by its name or its id; raises CommandError."""
    from tokendance_cli.key_request import resource

    if "/" in named:
        if organization and not named.startswith(f"{resource('organizations', organization)}/"):
            raise CommandError(f"{named} is not of the organization {organization}.", exit_code=USAGE)
        return named
    return resource(collection, named, organization_of(client, organization))


def given(message: Message, clear: Sequence[str], clearable: Mapping[str, str], also: Sequence[str] = ()) -> list[str]:
    """Return the paths of what was said: the fields set in `message`, those to clear, and what else is said.

    Raises CommandError where nothing was said, and for what cannot be cleared or is given anew.
    """
    paths = [*(field.name for field, _ in message.ListFields()), *also]
    for name in dict.fromkeys(clear):
        if name not in clearable:
            raise CommandError(f"{name!r} cannot be cleared; {', '.join(clearable)} can.", exit_code=USAGE)
        if clearable[name] in paths:
            raise CommandError(f"A new {name} and --clear {name} contradict each other.", exit_code=USAGE)
        paths.append(clearable[name])
    if not paths:
        raise CommandError("Nothing to change: say what; --help shows how.", exit_code=USAGE)
    return paths


def agree(question: str, *, yes: bool) -> None:
    """Ask before something is destroyed; raises CommandError where nobody can answer, and where somebody says no."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise CommandError(
            "Nobody is there to say yes: standard input is no terminal.",
            "Add --yes to do it without a question.",
            exit_code=USAGE,
        )
    if not typer.confirm(f"{question} Go on?", err=True):
        raise CommandError("Nothing was changed.", exit_code=FAILED)


def fate_number(fate: Fate | None) -> Any:
    """Return what becomes of keys as the node takes it; nothing said: as the policy says."""
    from tokendance.gateway.v1 import organization_pb2 as pb

    return pb.OrphanedKeys.Value(f"ORPHANED_KEYS_{fate.name}" if fate else "ORPHANED_KEYS_UNSPECIFIED")
