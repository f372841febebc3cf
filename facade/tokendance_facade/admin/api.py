"""The administration API: one HTTP request is one RPC, with the caller's own ID token."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib.resources import files
from typing import Any

import grpc
import grpc.aio
import structlog

from tokendance.gateway.v1 import (
    audit_service_pb2,
    keys_service_pb2,
    models_service_pb2,
    nodes_service_pb2,
    organizations_service_pb2,
    quota_service_pb2,
    status_service_pb2,
)
from tokendance_facade.admin.bindings import PREFIX, Binding, Bindings
from tokendance_facade.admin.messages import read_request, request_class, response_class, write_answer
from tokendance_facade.answers import Reply, Sent
from tokendance_facade.bodies import BodyReader
from tokendance_facade.credentials import find_credential
from tokendance_facade.errors import error_object
from tokendance_facade.event_stream import EventStream
from tokendance_facade.exchange import Exchange
from tokendance_facade.handlers.calls import Calls
from tokendance_facade.rpc_failures import read_failure

FILES = (
    keys_service_pb2.DESCRIPTOR,
    quota_service_pb2.DESCRIPTOR,
    models_service_pb2.DESCRIPTOR,
    status_service_pb2.DESCRIPTOR,
    organizations_service_pb2.DESCRIPTOR,
    audit_service_pb2.DESCRIPTOR,
    nodes_service_pb2.DESCRIPTOR,
)
"""Every file whose RPCs may have a path here."""

_NDJSON = "application/x-ndjson; charset=utf-8"
# Readers of JSON lines skip an empty one.
_BLANK_LINE = b"\n"
_log = structlog.get_logger("tokendance_facade")


class AdminApi:
    """Answers every path below `/admin/v1/`. `timeout_s` bounds one call, in seconds."""

    def __init__(
        self, channel: grpc.aio.Channel, calls: Calls, bodies: BodyReader, *, timeout_s: float, keepalive_s: float
    ) -> None:
        self._calls = calls
        self._bodies = bodies
        self._timeout_s = timeout_s
        self._keepalive_s = keepalive_s
        self._bindings = Bindings(FILES)
        self._rpcs = {binding.rpc: _callable(channel, binding) for binding in self._bindings}

    async def handle(self, exchange: Exchange) -> Reply:
        """Answer one request. Raises GatewayError."""
        request = exchange.request
        if exchange.path == PREFIX + "openapi.json" and request.method in {"GET", "HEAD"}:
            return exchange.answer(200, openapi_document())
        binding, values = self._bindings.find(request.method, exchange.path)
        exchange.route = f"{binding.verb} {binding.template}"
        credential = find_credential(request.headers, exchange.query, people=True)
        body = await self._bodies.read(request) if request.body_exists else b""
        message = read_request(binding, values, exchange.query, body)
        rpc = self._rpcs[binding.rpc]
        if binding.method.server_streaming:
            return await self._stream(exchange, credential, rpc, message)
        answer = await self._calls.unary(exchange, credential, rpc, message, self._timeout_s)
        # Secrets are in some answers, and nothing of any is for a cache to keep.
        return exchange.answer(200, write_answer(answer), headers=(("cache-control", "no-store"),))

    async def _stream(self, exchange: Exchange, credential: str | None, rpc: Any, message: Any) -> Reply:
        """Answer with one JSON object a line. An error midway is the last line, in the form of error answers."""
        call = rpc(message, metadata=self._calls.metadata(exchange, credential), timeout=self._timeout_s)
        stream = EventStream(
            exchange.request,
            exchange.request_id,
            lambda: exchange.headers,
            headers_after_s=self._timeout_s,
            keepalive_s=self._keepalive_s,
            content_type=_NDJSON,
            keep_alive=_BLANK_LINE,
        )
        try:
            async for answer in call:
                await stream.send(write_answer(answer) + b"\n")
            if not stream.opened:
                await stream.send(_BLANK_LINE)
            return await stream.end()
        except grpc.RpcError as failure:
            error = read_failure(failure, exchange.request_id)
            if not stream.opened:
                raise error from failure
            await stream.send(error_object(error, exchange.surface, exchange.request_id) + b"\n")
            return await stream.end()
        except ConnectionError as exc:
            _log.debug("caller_left", request_id=exchange.request_id, cause=type(exc).__name__)
            return Sent(keep_alive=False)
        finally:
            stream.stop()
            if not call.done():
                call.cancel()


@cache
def openapi_document() -> bytes:
    """Return the OpenAPI document of the administration, which `make gen` writes."""
    return files("tokendance_facade.admin").joinpath("openapi.json").read_bytes()


def _callable(channel: grpc.aio.Channel, binding: Binding) -> Callable[..., Any]:
    make: Any = channel.unary_stream if binding.method.server_streaming else channel.unary_unary
    multicallable: Callable[..., Any] = make(
        binding.rpc,
        request_serializer=request_class(binding).SerializeToString,
        response_deserializer=response_class(binding).FromString,
    )
    return multicallable
