"""Handlers of the model calls: chat completions, legacy completions, embeddings."""

from __future__ import annotations

from tokendance.gateway.v1 import completion_pb2
from tokendance_facade.accounts import account_headers
from tokendance_facade.answers import Header, Reply
from tokendance_facade.bodies import BodyReader
from tokendance_facade.credentials import read_credential
from tokendance_facade.dialects import completions, embeddings
from tokendance_facade.dialects.chat import answer, request
from tokendance_facade.dialects.chat.stream import ChatStreamEncoder
from tokendance_facade.exchange import Exchange
from tokendance_facade.handlers.calls import Calls, warning_headers


class CompletionHandlers:
    """One method for each path."""

    def __init__(self, calls: Calls, bodies: BodyReader) -> None:
        self._calls = calls
        self._bodies = bodies

    async def chat_completions(self, exchange: Exchange) -> Reply:
        """Answer `POST /v1/chat/completions`."""
        credential = read_credential(exchange.request.headers, exchange.query)
        call = await self._bodies.decoded(exchange.request, request.decode_document)
        if call.stream:
            encoder = ChatStreamEncoder(include_usage=call.completion.include_usage, function_call=call.function_call)
            return await self._calls.stream(exchange, credential, call.completion, encoder)
        completion = await self._calls.create(exchange, credential, call.completion)
        body = answer.encode(completion, function_call=call.function_call)
        return exchange.answer(200, body, headers=_headers(completion))

    async def completions(self, exchange: Exchange) -> Reply:
        """Answer `POST /v1/completions`."""
        credential = read_credential(exchange.request.headers, exchange.query)
        call = await self._bodies.decoded(exchange.request, lambda document, _: completions.decode_document(document))
        if call.stream:
            encoder = completions.TextStreamEncoder(include_usage=call.completion.include_usage, echo=call.echo)
            return await self._calls.stream(exchange, credential, call.completion, encoder)
        completion = await self._calls.create(exchange, credential, call.completion)
        body = completions.encode(completion, echo=call.echo)
        return exchange.answer(200, body, headers=_headers(completion))

    async def embeddings(self, exchange: Exchange) -> Reply:
        """Answer `POST /v1/embeddings`."""
        credential = read_credential(exchange.request.headers, exchange.query)
        call = await self._bodies.decoded(exchange.request, lambda document, _: embeddings.decode_document(document))
        vectors = await self._calls.embed(exchange, credential, call.embeddings)
        body = embeddings.encode(vectors, base64=call.base64)
        return exchange.answer(200, body, headers=_headers(vectors))


def _headers(answer: completion_pb2.Completion | completion_pb2.Embeddings) -> tuple[Header, ...]:
    return (*account_headers(answer.account), *warning_headers(answer.warnings))
