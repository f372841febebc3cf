"""The servicer's side of a call within the process: what gRPC's own context does, without a connection."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NoReturn

import grpc
import grpc.aio

from tokendance_server.services.local_metadata import check_metadata

Pairs = tuple[tuple[str, str | bytes], ...]


class Aborted(Exception):  # noqa: N818 - not an error by itself: it carries the status out of a servicer
    """A servicer ended its call with a status."""

    def __init__(self, code: grpc.StatusCode, message: str, trailing: Pairs = ()) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.trailing = trailing


class LocalContext(grpc.aio.ServicerContext[Any, Any]):
    """One call's state. `deadline` is in the event loop's seconds, None where the caller has set none."""

    def __init__(self, metadata: Pairs, deadline: float | None, loop: asyncio.AbstractEventLoop) -> None:
        self._metadata = metadata
        self._loop = loop
        self._deadline = deadline
        self._callbacks: list[Callable[[Any], None]] = []
        self.initial: Pairs = ()
        self.initial_sent = False
        self.trailing: Pairs = ()
        self.status: grpc.StatusCode | None = None
        self.message = ""

    def settle(self, code: grpc.StatusCode, message: str, trailing: Pairs = ()) -> None:
        """Fix how the call ended; the first word counts. A servicer's own set_code stands for OK."""
        if self.status is None or (code is not grpc.StatusCode.OK and self.status is grpc.StatusCode.OK):
            self.status, self.message = code, message
        if trailing:
            self.trailing = trailing

    def time_remaining_or_none(self) -> float | None:
        """Return the seconds left, or None where the caller has set no deadline."""
        if self._deadline is None:
            return None
        return max(self._deadline - self._loop.time(), 0.0)

    def run_done_callbacks(self) -> None:
        """Tell those who asked that the call has ended."""
        for callback in self._callbacks:
            callback(self)

    async def read(self) -> Any:
        """Refuse: requests come whole."""
        raise NotImplementedError("no service of this gateway takes a stream of requests")

    async def write(self, message: Any) -> None:
        """Refuse: servicers of this gateway yield their messages."""
        raise NotImplementedError("servicers of this gateway yield their messages")

    async def send_initial_metadata(self, initial_metadata: Iterable[tuple[str, str | bytes]]) -> None:
        """Send the metadata before the answer, once."""
        if self.initial_sent:
            raise RuntimeError("initial metadata was sent before")
        self.initial = check_metadata(initial_metadata)
        self.initial_sent = True

    async def abort(
        self,
        code: grpc.StatusCode,
        details: str = "",
        trailing_metadata: Iterable[tuple[str, str | bytes]] = (),
    ) -> NoReturn:
        """End the call with a status."""
        raise Aborted(code, details, tuple(trailing_metadata) or self.trailing)

    async def abort_with_status(self, status: grpc.Status) -> NoReturn:
        """End the call with a status."""
        await self.abort(status.code, status.details, status.trailing_metadata or ())

    def set_trailing_metadata(self, trailing_metadata: Iterable[tuple[str, str | bytes]]) -> None:
        """Set the metadata behind the answer."""
        self.trailing = check_metadata(trailing_metadata)

    def trailing_metadata(self) -> Any:
        """Return the metadata behind the answer."""
        return self.trailing

    def invocation_metadata(self) -> Any:
        """Return the caller's metadata: pairs of key and value."""
        return self._metadata

    def set_code(self, code: grpc.StatusCode) -> None:
        """Set the status with which the call will end."""
        self.status = code

    def set_details(self, details: str) -> None:
        """Set the message of the status."""
        self.message = details

    def code(self) -> Any:
        """Return the status as set so far."""
        return self.status

    def details(self) -> str:
        """Return the message as set so far."""
        return self.message

    def set_compression(self, compression: grpc.Compression) -> None:
        """Do nothing: nothing is sent over a wire."""

    def disable_next_message_compression(self) -> None:
        """Do nothing: nothing is sent over a wire."""

    def peer(self) -> str:
        """Return `local:`, in the place of an address."""
        return "local:"

    def peer_identities(self) -> Iterable[bytes] | None:
        """Return None: there is no transport to vouch for anybody."""
        return None

    def peer_identity_key(self) -> str | None:
        """Return None: there is no transport to vouch for anybody."""
        return None

    def auth_context(self) -> Mapping[str, Iterable[bytes]]:
        """Return nothing: there is no transport to vouch for anybody."""
        return {}

    def time_remaining(self) -> Any:
        """Return the seconds left, or None where the caller has set no deadline, as gRPC's own context does."""
        return self.time_remaining_or_none()

    def add_done_callback(self, callback: Callable[[Any], None]) -> None:
        """Call `callback` with this context when the call has ended."""
        self._callbacks.append(callback)

    def cancelled(self) -> bool:
        """Tell whether the caller cancelled the call."""
        return self.status is grpc.StatusCode.CANCELLED

    def done(self) -> bool:
        """Tell whether the call has ended."""
        return self.status is not None
