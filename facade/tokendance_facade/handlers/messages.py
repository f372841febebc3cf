"""Handlers of the Messages API: one that answers, one that counts a prompt, and one for what is not served."""

from __future__ import annotations

import time

import orjson

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import errors_pb2
from tokendance_facade.accounts import account_headers
from tokendance_facade.answers import Reply
from tokendance_facade.anthropic_headers import limit_headers, read_dialect_headers
from tokendance_facade.bodies import BodyReader
from tokendance_facade.credentials import read_credential
from tokendance_facade.dialects.messages import answer, request
from tokendance_facade.dialects.messages.stream import PING, MessagesStreamEncoder
from tokendance_facade.exchange import Exchange
from tokendance_facade.handlers.calls import Calls, Manners, warning_headers

_MANNERS = Manners(keep_alive=PING, headers=lambda account: limit_headers(account, time.time()))


class MessagesHandlers:
    """One method for each path."""

    def __init__(self, calls: Calls, bodies: BodyReader) -> None:
        self._calls = calls
        self._bodies = bodies

    async def create(self, exchange: Exchange) -> Reply:
        """Answer `POST /v1/messages`."""
        credential = read_credential(exchange.request.headers, exchange.query)
        headers = read_dialect_headers(exchange.request.headers)
        call = await self._bodies.decoded(exchange.request, request.decode_document)
        call.completion.dialect_headers.extend(headers)
        if call.stream:
            return await self._calls.stream(exchange, credential, call.completion, MessagesStreamEncoder(), _MANNERS)
        completion = await self._calls.create(exchange, credential, call.completion)
        told = (
            *account_headers(completion.account),
            *limit_headers(completion.account, time.time()),
            *warning_headers(completion.warnings),
        )
        return exchange.answer(200, answer.encode(completion), headers=told)

    async def count_tokens(self, exchange: Exchange) -> Reply:
        """Answer `POST /v1/messages/count_tokens`; an estimate says that it is one in a header."""
        credential = read_credential(exchange.request.headers, exchange.query)
        prompt = await self._bodies.decoded(exchange.request, request.decode_prompt)
        tokens, estimated = await self._calls.count(exchange, credential, prompt)
        headers = (("x-tokendance-estimated", "true"),) if estimated else ()
        return exchange.answer(200, orjson.dumps({"input_tokens": tokens}), headers=headers)

    async def batches(self, exchange: Exchange) -> Reply:
        """Answer whatever else is below `/v1/messages/`: there are no batches."""
        read_credential(exchange.request.headers, exchange.query)
        raise GatewayError(
            errors_pb2.ERROR_REASON_UNIMPLEMENTED,
            "This gateway takes no batches of messages; send each as a call of its own.",
            origin="caller",
        )
