"""Refusals that the facade made by itself, told to the server in batches: it has no store, and support asks by id."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

import grpc
import grpc.aio
import structlog

from tokendance.credentials import CredentialKind, recognise
from tokendance.errors import GatewayError
from tokendance.gateway.v1 import caller_pb2, facade_service_pb2, usage_pb2
from tokendance.gateway.v1.facade_service_pb2_grpc import FacadeServiceStub
from tokendance_facade.callers import CallerReader
from tokendance_facade.credentials import find_credential
from tokendance_facade.exchange import Exchange

MOST_WAITING = 1000
"""How many refusals wait to be told, and go in one call: of a flood, the rest is only counted and logged."""

_TELL_AFTER_S = 0.25
_TIMEOUT_S = 5.0
_LONGEST_MESSAGE = 1024
_LONGEST_HOST = 255
_LONGEST_SECRET = 256

_log = structlog.get_logger("tokendance_facade")

_KINDS = {
    CredentialKind.API_KEY: usage_pb2.CREDENTIAL_KIND_API_KEY,
    CredentialKind.ID_TOKEN: usage_pb2.CREDENTIAL_KIND_ID_TOKEN,
    CredentialKind.HUB_SESSION: usage_pb2.CREDENTIAL_KIND_HUB_SESSION,
    CredentialKind.PROVIDER_KEY: usage_pb2.CREDENTIAL_KIND_PROVIDER_KEY,
}


class RefusalReports:
    """Tells the server of refusals, a quarter of a second late and at most once; used from one event loop."""

    def __init__(self, channel: grpc.aio.Channel, callers: CallerReader) -> None:
        self._stub: Any = FacadeServiceStub(channel)
        self._callers = callers
        self._waiting: deque[facade_service_pb2.RefusedRequest] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._telling: asyncio.Task[None] | None = None

    def note(self, exchange: Exchange, error: GatewayError, status: int) -> None:
        """Take a refused request; of a credential that is no API key of ours only the kind is passed on."""
        request = exchange.request
        try:
            credential = find_credential(request.headers, exchange.query)
        except GatewayError:
            kind, secret = usage_pb2.CREDENTIAL_KIND_OTHER, ""
        else:
            kind, secret = _kind_of(credential)
        caller = self._callers.assertion(request, exchange.request_id, exchange.surface, exchange.route)
        self._add(caller, error, status, kind, secret)

    def note_malformed(self, error: GatewayError, request_id: str, status: int) -> None:
        """Take bytes that were no request."""
        caller = caller_pb2.CallerAssertion(request_id=request_id)
        self._add(caller, error, status, usage_pb2.CREDENTIAL_KIND_UNSPECIFIED, "")

    async def close(self) -> None:
        """Tell what still waits."""
        if self._timer is not None:
            self._timer.cancel()
        if self._telling is not None:
            await asyncio.wait([self._telling])
        await self._tell()

    def _add(
        self,
        caller: caller_pb2.CallerAssertion,
        error: GatewayError,
        status: int,
        kind: usage_pb2.CredentialKind.ValueType,
        secret: str,
    ) -> None:
        if len(self._waiting) >= MOST_WAITING:
            return
        refused = facade_service_pb2.RefusedRequest(
            caller=caller,
            reason=error.reason,
            message=error.message[:_LONGEST_MESSAGE],
            http_status=status,
            credential_kind=kind,
            secret=secret,
            host=caller.host[:_LONGEST_HOST],
        )
        refused.time.GetCurrentTime()
        self._waiting.append(refused)
        if self._timer is None and self._telling is None:
            self._timer = asyncio.get_running_loop().call_later(_TELL_AFTER_S, self._start)

    def _start(self) -> None:
        self._timer = None
        self._telling = asyncio.get_running_loop().create_task(self._tell())
        self._telling.add_done_callback(self._told)

    def _told(self, _: asyncio.Task[None]) -> None:
        self._telling = None
        if self._waiting:
            self._timer = asyncio.get_running_loop().call_later(_TELL_AFTER_S, self._start)

    async def _tell(self) -> None:
        if not self._waiting:
            return
        batch = list(self._waiting)
        self._waiting.clear()
        try:
            await self._stub.RecordRefusals(
                facade_service_pb2.RecordRefusalsRequest(refusals=batch), timeout=_TIMEOUT_S
            )
        except grpc.RpcError as exc:
            # Each is in the log already; a server that is away must not be flooded when it is back.
            _log.warning("refusals_not_told", count=len(batch), error=type(exc).__name__)


def _kind_of(credential: str | None) -> tuple[usage_pb2.CredentialKind.ValueType, str]:
    if credential is None:
        return usage_pb2.CREDENTIAL_KIND_UNSPECIFIED, ""
    kind = recognise(credential)
    is_key = kind is CredentialKind.API_KEY and len(credential) <= _LONGEST_SECRET
    return _KINDS.get(kind, usage_pb2.CREDENTIAL_KIND_OTHER), credential if is_key else ""
