"""`tokendance demo-data`: fills a development node, so that console and pages can be seen alive."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tokendance_cli.development_key import read_development_key
from tokendance_cli.output import globals_of

if TYPE_CHECKING:
    from tokendance import Client

_BAR = 30


def demo_data(
    context: typer.Context,
    *,
    days: Annotated[int, typer.Option(min=1, max=366, help="How many days of usage, up to now.")] = 30,
    model: Annotated[str, typer.Option(help="The model that was called.")] = "demo-echo",
    data_dir: Annotated[
        Path | None, typer.Option("--data-dir", help="The node's data directory.", show_default=False)
    ] = None,
) -> None:
    """Fill a development node with organizations, people, keys, usage, requests and incidents, by the real RPCs.

    Only for a node without an identity provider. Each run adds organizations of its own; nothing is removed.
    """
    from tokendance import GatewayError
    from tokendance_cli.demo_data import fill
    from tokendance_cli.node_socket import operator_client, told
    from tokendance_server.domain.clock import SystemClock
    from tokendance_server.domain.identity.roles import Grant

    directory = data_dir or globals_of(context).data_dir
    key = read_development_key(directory)

    @contextmanager
    def opening(who: str) -> Iterator[Client]:
        token = ""
        if who == "service":
            token = key.sign(Grant("service"), SystemClock().now(), subject="demo-data")
        elif who != "operator":
            organization = who.partition("/members/")[0]
            token = key.sign(Grant("member", organization), SystemClock().now(), member=who, subject=who)
        with operator_client(directory, token) as client:
            yield client

    try:
        count = fill(opening, days=days, model=model, progress=_show)
    except GatewayError as error:
        raise told(error) from error
    print(f"Made {count:,} calls over {days} days. Look at them: `tokendance console`.")


def _show(done: int, whole: int, what: str) -> None:
    if not sys.stderr.isatty():
        return
    filled = _BAR * done // max(whole, 1)
    end = "\n" if done == whole else ""
    print(f"\r{'#' * filled}{'.' * (_BAR - filled)} {what}: {done:,} of {whole:,}\033[K", end=end, file=sys.stderr)
