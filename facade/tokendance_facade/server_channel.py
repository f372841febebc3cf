"""The channel to a server in another process: over its socket, or over TCP with certificates that may be renewed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Any, NoReturn, Self

import grpc
import grpc.aio
import structlog

from tokendance.tls_files import TlsFiles
from tokendance_facade.config import FacadeConfig

_log = structlog.get_logger("tokendance_facade")
_OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    # The server is ours and near: a proxy for the world outside would only see what it must not.
    ("grpc.enable_http_proxy", 0),
    # A server that is gone without a word is noticed, also while there are no calls.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    # One that is started again is met soon.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1_000),
    ("grpc.max_reconnect_backoff_ms", 2_000),
)


def open_channel(config: FacadeConfig, own_socket: str, *, look_every_s: float = 5.0) -> grpc.aio.Channel:
    """Return the channel to the server of the configuration, or to `own_socket` where it names none.

    `look_every_s` is how long a certificate may have been renewed before that is seen. Raises ValueError where the
    certificates cannot be used.
    """
    if config.server_tls is None:
        return grpc.aio.insecure_channel(config.server or own_socket, options=_OPTIONS)
    name = config.server_tls.server_name
    options = (*_OPTIONS, ("grpc.ssl_target_name_override", name)) if name else _OPTIONS
    target = config.server

    def connect(credentials: grpc.ChannelCredentials) -> grpc.aio.Channel:
        return grpc.aio.secure_channel(target, credentials, options=options)

    return RenewedChannel(
        config.server_tls.files(), connect, look_every_s=look_every_s, drain_s=config.stream_timeout_s
    )


class RenewedChannel(grpc.aio.Channel):
    """A channel that goes over to a new connection once its certificate files have changed.

    Calls that run stay where they are, for `drain_s` seconds at most. A new connection that does not come to be
    replaces nothing, so a wrong file costs no call while the old certificate is good. Raises ValueError where the
    files cannot be used.
    """

    def __init__(
        self,
        files: TlsFiles,
        connect: Callable[[grpc.ChannelCredentials], grpc.aio.Channel],
        *,
        look_every_s: float,
        drain_s: float,
    ) -> None:
        self._files = files
        self._connect = connect
        self._look_every_s = look_every_s
        self._drain_s = drain_s
        self._seen = files.stamp()
        self._channel = connect(_credentials(files))
        self._next: grpc.aio.Channel | None = None
        self._look_at = 0.0
        self._retired: dict[asyncio.Task[None], grpc.aio.Channel] = {}

    def current(self) -> grpc.aio.Channel:
        """Return the channel for a call that begins now."""
        now = asyncio.get_running_loop().time()
        if now >= self._look_at:
            self._look_at = now + self._look_every_s
            self._look()
        if self._next is not None and self._is_better(self._next):
            _log.info("certificates_renewed", certificate=str(self._files.certificate))
            self._retire(self._channel, self._drain_s)
            self._channel, self._next = self._next, None
        return self._channel

    def _look(self) -> None:
        stamp = self._files.stamp()
        if stamp == self._seen:
            return
        self._seen = stamp
        try:
            credentials = _credentials(self._files)
        except ValueError as error:
            _log.warning("certificates_not_renewed", why=str(error))
            return
        if self._next is not None:
            self._retire(self._next, 0)
        self._next = self._connect(credentials)

    def _is_better(self, candidate: grpc.aio.Channel) -> bool:
        ready = grpc.ChannelConnectivity.READY
        return candidate.get_state(try_to_connect=True) is ready or self._channel.get_state() is not ready

    def _retire(self, channel: grpc.aio.Channel, after_s: float) -> None:
        # Not gRPC's own grace: a channel that is closing so cannot be closed any sooner.
        task = asyncio.ensure_future(_close_later(channel, after_s))
        self._retired[task] = channel
        task.add_done_callback(self._retired.pop)

    async def close(self, grace: float | None = None) -> None:
        """Close what there is, let calls end within `grace` seconds, then cancel them."""
        channels = [self._channel, *([] if self._next is None else [self._next]), *self._retired.values()]
        for task in self._retired:
            task.cancel()
        await asyncio.gather(*(channel.close(grace) for channel in channels))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        await self.close()

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        """Return the state of the connection that calls take now."""
        return self.current().get_state(try_to_connect)

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        """Wait until the connection that calls take now has another state."""
        await self.current().wait_for_state_change(last_observed_state)

    async def channel_ready(self) -> None:
        """Wait until the server is reached."""
        await self.current().channel_ready()

    def unary_unary(self, *arguments: Any, **options: Any) -> Any:
        """Return a callable for one unary method."""
        return _Method(self, lambda channel: channel.unary_unary(*arguments, **options))

    def unary_stream(self, *arguments: Any, **options: Any) -> Any:
        """Return a callable for one method that answers a stream."""
        return _Method(self, lambda channel: channel.unary_stream(*arguments, **options))

    def stream_unary(self, method: str, *_: Any, **__: Any) -> NoReturn:
        """Refuse: no service of ours takes a stream of requests."""
        raise NotImplementedError(f"{method}: no service of this gateway takes a stream of requests")

    def stream_stream(self, method: str, *_: Any, **__: Any) -> NoReturn:
        """Refuse: no service of ours takes a stream of requests."""
        raise NotImplementedError(f"{method}: no service of this gateway takes a stream of requests")


class _Method:
    """One method of whichever channel is the current one."""

    def __init__(self, owner: RenewedChannel, bind: Callable[[grpc.aio.Channel], Any]) -> None:
        self._owner = owner
        self._bind = bind
        self._channel: grpc.aio.Channel | None = None
        self._bound: Any = None

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        channel = self._owner.current()
        if channel is not self._channel:
            self._channel, self._bound = channel, self._bind(channel)
        return self._bound(*arguments, **options)


async def _close_later(channel: grpc.aio.Channel, after_s: float) -> None:
    await asyncio.sleep(after_s)
    await channel.close()


def _credentials(files: TlsFiles) -> grpc.ChannelCredentials:
    pems = files.read()
    return grpc.ssl_channel_credentials(pems.authority, pems.key, pems.certificate)
