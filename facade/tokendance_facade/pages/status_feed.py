"""Tells open pages that the state changed: one watch of the server, however many pages are open."""

from __future__ import annotations

import asyncio
import contextlib

import grpc
import orjson
import structlog

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import errors_pb2
from tokendance_facade.answers import Reply, Sent
from tokendance_facade.event_stream import EventStream
from tokendance_facade.exchange import Exchange
from tokendance_facade.pages.live import LiveData
from tokendance_facade.pages.security import FILE_HEADERS

MOST_READERS = 1000
"""More pages than this read the state without being told of changes."""

_FIRST_PAUSE_S = 1.0
_LONGEST_PAUSE_S = 60.0
_log = structlog.get_logger("tokendance_facade")


class StatusFeed:
    """Serves `GET /status/events`. The server is watched while somebody reads."""

    def __init__(self, live: LiveData, *, keepalive_s: float) -> None:
        self._live = live
        self._keepalive_s = keepalive_s
        self._readers = 0
        self._number = 0
        self._changed = asyncio.Event()
        self._stopping = False
        self._watch: asyncio.Task[None] | None = None

    async def serve(self, exchange: Exchange) -> Reply:
        """Answer with an event each time that the state changed, and one at once. Raises gateway_overloaded."""
        if self._ended() or self._readers >= MOST_READERS:
            raise GatewayError(
                errors_pb2.ERROR_REASON_GATEWAY_OVERLOADED,
                "Too many pages follow the state right now; read /v1/status instead.",
            )
        stream = EventStream(
            exchange.request,
            exchange.request_id,
            lambda: (*exchange.headers, *FILE_HEADERS),
            headers_after_s=self._keepalive_s,
            keepalive_s=self._keepalive_s,
        )
        self._enter()
        try:
            while True:
                changed = self._changed
                await stream.send(b"event: status\ndata: %b\n\n" % orjson.dumps({"number": self._number}))
                await changed.wait()
                if self._ended():
                    return await stream.end()
        except ConnectionError as exc:
            _log.debug("caller_left", request_id=exchange.request_id, cause=type(exc).__name__)
            return Sent(keep_alive=False)
        finally:
            stream.stop()
            self._leave()

    def stop(self) -> None:
        """End every stream."""
        self._stopping = True
        if self._watch is not None:
            self._watch.cancel()
        self._changed.set()

    def _ended(self) -> bool:
        return self._stopping

    def _enter(self) -> None:
        self._readers += 1
        if self._watch is None or self._watch.done():
            self._watch = asyncio.create_task(self._follow())

    def _leave(self) -> None:
        self._readers -= 1
        if not self._readers and self._watch is not None:
            self._watch.cancel()
            self._watch = None

    async def _follow(self) -> None:
        """Watch the server for as long as somebody reads; what cannot be watched now is tried again later."""
        token = ""
        pause_s = _FIRST_PAUSE_S
        while True:
            call = self._live.watch(token)
            try:
                async for message in call:
                    pause_s = _FIRST_PAUSE_S
                    token = message.resume_token or token
                    if message.WhichOneof("event") is not None:
                        self._tell()
            except grpc.RpcError as failure:
                _log.debug("status_watch_ended", cause=type(failure).__name__)
                token = ""
            finally:
                with contextlib.suppress(asyncio.InvalidStateError):
                    call.cancel()
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)
            self._tell()

    def _tell(self) -> None:
        self._live.drop()
        self._number += 1
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
