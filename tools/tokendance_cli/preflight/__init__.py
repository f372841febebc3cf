"""A configuration inspected before it is served: what is on, what is insecure, and what would not start.

Nothing is made, changed or locked: not a directory, not a byte of a file, not a row. Only stores and server are asked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from tokendance_cli.failures import CommandError
from tokendance_cli.node import Role
from tokendance_cli.preflight.data import inspect_data, inspect_settings
from tokendance_cli.preflight.doors import (
    inspect_cors,
    inspect_listeners,
    inspect_proxies,
    inspect_reflection,
    inspect_server,
)
from tokendance_cli.preflight.row import Row, State
from tokendance_cli.preflight.server import inspect_answer
from tokendance_cli.preflight.stores import STORES, inspect_stores, inspect_ways
from tokendance_cli.preflight.upstreams import inspect_egress, inspect_models, inspect_providers
from tokendance_cli.run_node import loop_factory
from tokendance_cli.secret_file import check_writable
from tokendance_cli.settings import GatewaySettings


def inspect(
    settings: GatewaySettings, role: Role, *, config: Path | None, key_file: Path | None, loop: str
) -> Iterator[Row]:
    """Yield what a process of this role would be, part by part. `config` is the file of the settings."""
    yield inspect_settings(config)
    yield _inspect(f"event loop {loop}", lambda: loop_factory(loop))
    if key_file is not None:
        yield _inspect(f"first key in {key_file}", lambda: check_writable(key_file))
    stored: list[Row] = []
    kept = None
    if role is not Role.FACADE:
        yield from inspect_data(settings.server)
        stored, kept = inspect_stores(settings, role)
        yield from (row for row in stored if row.part in STORES)
        yield from inspect_ways(settings.server)
    yield from inspect_listeners(settings, role)
    if role is not Role.FACADE:
        yield inspect_reflection(settings.server)
    if role is Role.FACADE:
        way = inspect_server(settings)
        yield way
        if way.state not in (State.PROBLEM, State.LIMITED):
            yield inspect_answer(settings)
    if role is not Role.SERVER:
        yield inspect_proxies(settings.facade)
        yield inspect_cors(settings.facade)
    if role is not Role.FACADE:
        yield inspect_egress(settings, role)
        yield from inspect_providers(settings, role, kept)
        yield from inspect_models(settings, kept)
        yield from (row for row in stored if row.part not in STORES)


def _inspect(part: str, check: Callable[[], object]) -> Row:
    try:
        check()
    except CommandError as error:
        return Row(part, State.PROBLEM, error.message, " ".join(error.hints))
    return Row(part, State.ON, "can be used")
