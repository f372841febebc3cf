"""Handlers of the Responses API: one that answers, and those that say clearly what a stateless gateway has not."""

from __future__ import annotations

import time

import orjson

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import errors_pb2
from tokendance_facade.accounts import account_headers
from tokendance_facade.answers import Reply
from tokendance_facade.bodies import BodyReader
from tokendance_facade.codex import codex_headers
from tokendance_facade.credentials import read_credential
from tokendance_facade.dialects.responses import answer, request
from tokendance_facade.dialects.responses.stream import ResponsesStreamEncoder
from tokendance_facade.errors import error_document
from tokendance_facade.exchange import Exchange
from tokendance_facade.handlers.calls import Calls, Manners, warning_headers


class ResponsesHandlers:
    """One method for each kind of path."""

    def __init__(self, calls: Calls, bodies: BodyReader) -> None:
        self._calls = calls
        self._bodies = bodies

    async def create(self, exchange: Exchange) -> Reply:
        """Answer `POST /v1/responses`."""
        credential = read_credential(exchange.request.headers, exchange.query)
        call = await self._bodies.decoded(exchange.request, request.decode_document)
        if call.stream:
            return await self._stream(exchange, credential, call)
        completion = await self._calls.create(exchange, credential, call.completion)
        now = time.time()
        headers = (
            *account_headers(completion.account),
            *codex_headers(completion.account, now),
            *warning_headers((*call.warnings, *completion.warnings)),
        )
        return exchange.answer(200, answer.encode(completion, call.settings, now=int(now)), headers=headers)

    async def connect(self, exchange: Exchange) -> Reply:
        """Answer `GET /v1/responses`: over a WebSocket nothing is served, and clients turn to HTTP at once."""
        if exchange.request.headers.get("Upgrade", "").lower() == "websocket":
            raise GatewayError(
                errors_pb2.ERROR_REASON_WEBSOCKET_NOT_SERVED,
                "Responses are served over HTTP, not over a WebSocket; send the same as POST.",
                origin="caller",
            )
        raise GatewayError(
            errors_pb2.ERROR_REASON_METHOD_NOT_ALLOWED,
            "This path takes POST.",
            metadata={"allow": "OPTIONS, POST"},
            origin="caller",
        )

    async def count(self, exchange: Exchange) -> Reply:
        """Answer `POST /v1/responses/input_tokens`; an estimate says that it is one."""
        credential = read_credential(exchange.request.headers, exchange.query)
        call = await self._bodies.decoded(exchange.request, request.decode_document)
        tokens, estimated = await self._calls.count(exchange, credential, call.completion)
        document = {"object": "response.input_tokens", "input_tokens": tokens, "estimated": estimated}
        return exchange.answer(200, orjson.dumps(document))

    async def stored(self, exchange: Exchange) -> Reply:
        """Answer whatever is below `/v1/responses/`: nothing is stored."""
        read_credential(exchange.request.headers, exchange.query)
        raise GatewayError(
            errors_pb2.ERROR_REASON_UNIMPLEMENTED,
            "This gateway stores no answers, so there is none to fetch, cancel, delete or compact; "
            "send the whole conversation as `input` each time.",
            origin="caller",
        )

    async def _stream(self, exchange: Exchange, credential: str, call: request.ResponsesCall) -> Reply:
        encoder = ResponsesStreamEncoder(
            call,
            spare_id=f"resp_{exchange.request_id.removeprefix('req_')}",
            now=lambda: int(time.time()),
        )
        manners = Manners(
            # A line of data: what Codex counts as a sign of life, and comments are not.
            keep_alive=encoder.keep_alive,
            failed=lambda error: encoder.fail(
                error_document(error, exchange.surface, exchange.request_id), error.retry_after_s
            ),
            headers=lambda account: codex_headers(account, time.time()),
        )
        return await self._calls.stream(exchange, credential, call.completion, encoder, manners)
