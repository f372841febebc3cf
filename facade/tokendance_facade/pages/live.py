"""What pages show of the running gateway: read through public RPCs without a credential, kept for a moment."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, Generic, TypeVar

import grpc
import grpc.aio
import structlog

from tokendance.gateway.v1 import models_service_pb2, status_service_pb2
from tokendance.gateway.v1.models_service_pb2_grpc import ModelsServiceStub
from tokendance.gateway.v1.status_service_pb2_grpc import StatusServiceStub

HISTORY_DAYS = 90
_KEEP_S = 2.0
_PAGE_SIZE = 1000
_MAX_PAGES = 20
_PAST_INCIDENTS = 50
_DAY_S = 86_400
_log = structlog.get_logger("tokendance_facade")

T = TypeVar("T")


class Kept(Generic[T]):
    """A value that is read at most every `keep_s` seconds, by one reader for everybody who waits.

    Where reading fails the value is None until it is read again: a page says that it is not known.
    """

    def __init__(self, read: Callable[[], Awaitable[T]], keep_s: float = _KEEP_S) -> None:
        self._read = read
        self._keep_s = keep_s
        self._until = 0.0
        self._value: T | None = None
        self._reading = asyncio.Lock()
        self.version = 0
        """Counts the readings, so that what was made of a value is known to be of this one."""

    def drop(self) -> None:
        """Have it read again for whoever asks next."""
        self._until = 0.0

    async def get(self) -> T | None:
        """Return the value, or None where it cannot be read."""
        if time.monotonic() >= self._until:
            async with self._reading:
                if time.monotonic() >= self._until:
                    await self._renew()
        return self._value

    async def _renew(self) -> None:
        fresh: T | None
        try:
            fresh = await self._read()
        except grpc.RpcError as failure:
            _log.debug("live_data_unavailable", status=str(getattr(failure, "code", lambda: "")()))
            fresh = None
        if fresh != self._value:
            self._value = fresh
            self.version += 1
        self._until = time.monotonic() + self._keep_s


class LiveData:
    """The state of the gateway and its public catalogue. `timeout_s` bounds each call."""

    def __init__(self, channel: grpc.aio.Channel, *, timeout_s: float) -> None:
        self._status: Any = StatusServiceStub(channel)
        self._models: Any = ModelsServiceStub(channel)
        self._timeout_s = timeout_s
        self.status = Kept(self._read_status)
        self.models = Kept(self._read_models)
        self.past = Kept(self._read_past)

    async def _read_status(self) -> status_service_pb2.StatusSnapshot:
        request = status_service_pb2.GetStatusRequest(history_days=HISTORY_DAYS)
        answer: status_service_pb2.GetStatusResponse = await self._status.GetStatus(request, timeout=self._timeout_s)
        # The moment of the answer is not news: a page changes where something else does.
        answer.status.ClearField("time")
        return answer.status

    async def _read_models(self) -> list[models_service_pb2.Model]:
        found: list[models_service_pb2.Model] = []
        page_token = ""
        for _ in range(_MAX_PAGES):
            request = models_service_pb2.ListModelsRequest(page_size=_PAGE_SIZE, page_token=page_token)
            page = await self._models.ListModels(request, timeout=self._timeout_s)
            found.extend(page.models)
            page_token = page.next_page_token
            if not page_token:
                break
        return found

    async def _read_past(self) -> list[status_service_pb2.Incident]:
        """Return the incidents that are over, of the days that the page shows, the newest first."""
        request = status_service_pb2.ListIncidentsRequest(page_size=_PAST_INCIDENTS)
        request.start_time.FromSeconds(int(time.time()) // _DAY_S * _DAY_S - HISTORY_DAYS * _DAY_S)
        page = await self._status.ListIncidents(request, timeout=self._timeout_s)
        return [one for one in page.incidents if one.HasField("resolve_time")]

    def drop(self) -> None:
        """Have everything read again for whoever asks next."""
        for kept in (self.status, self.models, self.past):
            kept.drop()

    def watch(self, resume_token: str) -> Any:
        """Return the stream of changes, which ends with the call that the caller cancels."""
        return self._status.WatchStatus(status_service_pb2.WatchStatusRequest(resume_token=resume_token))
