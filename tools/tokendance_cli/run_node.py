"""The life of a node's process: an event loop, a node, and the signals that end it."""

from __future__ import annotations

import asyncio
import gc
import signal
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tokendance_cli.announcement import addresses, console_line, curl_line, first_key, open_addresses, unbelieved
from tokendance_cli.certificates import check_certificates
from tokendance_cli.development_key import read_development_key, sign_in_link
from tokendance_cli.failures import CommandError
from tokendance_cli.node import Node, Role, is_loopback_only
from tokendance_cli.secret_file import check_writable, write_secret
from tokendance_cli.settings import GatewaySettings
from tokendance_server.telemetry import configure_logging

# Older releases can close another connection's descriptor when a connect is cancelled: answers could then
# reach the wrong caller.
_UVLOOP_FLOOR = (0, 23)
_CUT_S = 5
# What is there when a node is ready stays, so it is not searched for garbage again and again. What comes and goes with
# calls is searched a third as often as by default; less often still, and what large messages leave would pile up.
_GARBAGE_THRESHOLDS = (2_000, 10, 10)


def run(settings: GatewaySettings, role: Role, loop: str, key_file: Path | None) -> None:
    """Run a node until it is told to stop; raises CommandError where it cannot start."""
    check_certificates(settings, role)
    if key_file is not None:
        check_writable(key_file)
    configure_logging(settings.server.log_level)
    with asyncio.Runner(loop_factory=loop_factory(loop)) as runner:
        runner.run(_serve(settings, role, key_file))


def loop_factory(name: str) -> Callable[[], asyncio.AbstractEventLoop]:
    """Return what makes the event loop `uvloop` or `asyncio`; raises CommandError for a uvloop that is unsafe."""
    if name == "asyncio":
        return asyncio.new_event_loop
    hint = "Run `make setup` to renew it, or serve with --loop asyncio."
    try:
        import uvloop
    except ImportError as error:
        raise CommandError("uvloop is not installed.", hint) from error
    release = version("uvloop")
    if not _new_enough(release):
        raise CommandError(f"uvloop {release} is too old to be safe; 0.23 or later is needed.", hint)
    return uvloop.new_event_loop


def _new_enough(release: str) -> bool:
    numbers = tuple(int(part) if part.isdecimal() else 0 for part in release.split(".")[:2])
    return numbers >= _UVLOOP_FLOOR


async def _serve(settings: GatewaySettings, role: Role, key_file: Path | None) -> None:
    signals = _Signals(asyncio.get_running_loop())
    node = Node(settings, role)
    try:
        if not await _started(node, signals, key_file):
            return
        _announce(node, settings, role, key_file)
        _spare_searches()
        await signals.first.wait()
    except BaseException:
        await node.stop(0)
        raise
    print("Stopping: calls that run may end; a second signal cuts them.", file=sys.stderr, flush=True)
    stopping = asyncio.ensure_future(node.stop(settings.server.stop_grace_s))
    if await signals.second_before(stopping):
        await asyncio.wait_for(node.stop(0), _CUT_S)


def _spare_searches() -> None:
    gc.freeze()
    gc.enable()
    gc.set_threshold(*_GARBAGE_THRESHOLDS)


async def _started(node: Node, signals: _Signals, key_file: Path | None) -> bool:
    """Start the node and tell whether it runs: a signal may end it before."""
    try:
        return not await signals.first_before(asyncio.ensure_future(node.start()))
    finally:
        # The key is made before the first port is bound; a port that is taken must not lose it.
        _show_first_key(node, key_file)


class _Signals:
    """SIGINT and SIGTERM, counted: the first asks, the second insists."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.first = asyncio.Event()
        self.second = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._received)

    async def first_before(self, task: asyncio.Future[None]) -> bool:
        """Wait for the task and tell whether the first signal came before its end; the task is then cancelled."""
        return await _before(self.first, task)

    async def second_before(self, task: asyncio.Future[None]) -> bool:
        """Wait for the task and tell whether the second signal came before its end; the task is then cancelled."""
        return await _before(self.second, task)

    def _received(self) -> None:
        if self.first.is_set():
            self.second.set()
        self.first.set()


async def _before(event: asyncio.Event, task: asyncio.Future[None]) -> bool:
    waiting = asyncio.ensure_future(event.wait())
    either: list[asyncio.Future[Any]] = [waiting, task]
    try:
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiting.cancel()
    if task.done():
        await task
        return False
    task.cancel()
    await asyncio.wait([task])
    return True


def _show_first_key(node: Node, key_file: Path | None) -> None:
    made = node.first_key
    if made is None:
        return
    if key_file is not None:
        write_secret(key_file, made.secret)
    print(first_key(made.organization, made.secret, key_file), end="\n\n", flush=True)


def _announce(node: Node, settings: GatewaySettings, role: Role, key_file: Path | None) -> None:
    plain_grpc = node.grpc_address if settings.server.tls is None else ""
    plain_public = node.grpc_public_address if settings.server.grpc_public_tls is None else ""
    for warning in open_addresses(node.http_url, node.internal_url, plain_grpc, plain_public):
        print(f"Warning: {warning}", file=sys.stderr, flush=True)
    facade = settings.facade
    if role is Role.FACADE and facade.server and facade.server_tls is None and not facade.server.startswith("unix:"):
        print(f"Warning: {unbelieved(facade.server)}", file=sys.stderr, flush=True)
    data_dir = None if role is Role.FACADE else settings.server.data_dir
    told = addresses(
        node.http_url,
        node.internal_url,
        node.grpc_address,
        data_dir,
        node.facade_address,
        public_address=node.grpc_public_address,
    )
    print(told)
    if node.http_url:
        model = settings.models[0].name if settings.models else "demo-echo"
        secret = node.first_key.secret if node.first_key is not None else None
        written = key_file if key_file is not None and key_file.exists() else None
        print(f"\nTry it:\n\n  {curl_line(node.http_url, model, secret, written)}")
    link = _console_link(node, settings, role)
    if link:
        print(f"\n{console_line(link)}")
    sys.stdout.flush()


def _console_link(node: Node, settings: GatewaySettings, role: Role) -> str:
    """Return a sign-in link for a node whose people have no identity provider, or an empty text."""
    server = settings.server
    if server.identity.issuer or server.database_url is not None or not is_loopback_only(settings, role):
        return ""
    if not settings.facade.console.enabled or not node.internal_url.startswith("http"):
        return ""
    from tokendance_server.domain.identity.roles import Grant

    key = read_development_key(server.data_dir)
    return sign_in_link(node.internal_url, key, Grant("platform_admin"))
