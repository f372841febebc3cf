"""What a node is compared with: the least that a gateway of its kind could be. Each is a process of its own.

python -m dev.bench.yardsticks json-proxy --upstream http://127.0.0.1:PORT/v1     prints {"port": N} when ready
"""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import grpc
import orjson
import uvloop
from aiohttp import web

from tokendance.gateway.v1 import completion_pb2 as pb
from tokendance.gateway.v1 import completions_service_pb2 as service_pb

Answer = service_pb.CreateCompletionResponse
Context = grpc.aio.ServicerContext[service_pb.CreateCompletionRequest, Answer]

SERVICE = "tokendance.gateway.v1.CompletionsService"
CHAT = "/v1/chat/completions"
JSON_HEADERS = {"content-type": "application/json"}


@asynccontextmanager
async def json_proxy(upstream: str) -> AsyncIterator[int]:
    """Reads JSON, writes JSON, reads JSON, writes JSON: a proxy that understands both sides and does nothing."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

        async def handle(request: web.Request) -> web.Response:
            question = orjson.loads(await request.read())
            async with session.post(
                f"{upstream}/chat/completions", data=orjson.dumps(question), headers=JSON_HEADERS
            ) as answered:
                answer = orjson.loads(await answered.read())
            return web.Response(body=orjson.dumps(answer), content_type="application/json")

        application = web.Application()
        application.router.add_post(CHAT, handle)
        async with _site(web.AppRunner(application, access_log=None)) as port:
            yield port


@asynccontextmanager
async def byte_relay(upstream: str) -> AsyncIterator[int]:
    """Copies whatever arrives, as it arrives: a stream that nobody looks into."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

        async def handle(request: web.BaseRequest) -> web.StreamResponse:
            question = await request.read()
            response = web.StreamResponse(headers={"content-type": "text/event-stream"})
            await response.prepare(request)
            async with session.post(f"{upstream}/chat/completions", data=question, headers=JSON_HEADERS) as answered:
                async for data in answered.content.iter_any():
                    await response.write(data)
            return response

        server = web.Server(handle, access_log=None, handler_cancellation=True)
        async with _site(web.ServerRunner(server)) as port:
            yield port


@asynccontextmanager
async def _site(runner: web.BaseRunner) -> AsyncIterator[int]:
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, backlog=4096, shutdown_timeout=1).start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


class _Empty:
    """Says the same to everybody."""

    def __init__(self) -> None:
        text = pb.Part(text=pb.Text(text="The simulator answers in just nine words here."))
        message = pb.Message(role=pb.ROLE_ASSISTANT, parts=[text])
        choice = pb.Choice(message=message, finish_reason=pb.FINISH_REASON_STOP)
        completion = pb.Completion(id="chatcmpl-empty", model="sim", choices=[choice])
        self._answer = Answer(completion=completion)

    async def create_completion(self, request: service_pb.CreateCompletionRequest, context: Context) -> Answer:
        """Reads a request (grpc has done that), does nothing, answers."""
        return self._answer


@asynccontextmanager
async def empty_grpc(upstream: str) -> AsyncIterator[int]:
    """A handler that does nothing, in a grpc.aio server as it comes."""
    handler = grpc.unary_unary_rpc_method_handler(
        _Empty().create_completion,
        request_deserializer=service_pb.CreateCompletionRequest.FromString,
        response_serializer=Answer.SerializeToString,
    )
    server = grpc.aio.server()
    server.add_registered_method_handlers(SERVICE, {"CreateCompletion": handler})
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield port
    finally:
        await server.stop(None)


YARDSTICKS = {"json-proxy": json_proxy, "byte-relay": byte_relay, "empty-grpc": empty_grpc}


async def _serve(name: str, upstream: str) -> None:
    async with YARDSTICKS[name](upstream) as port:
        print(json.dumps({"port": port}), flush=True)
        await asyncio.Event().wait()


def main() -> None:
    """Runs one yardstick until it is ended by a signal."""
    parser = argparse.ArgumentParser(prog="yardsticks", description=__doc__)
    parser.add_argument("name", choices=sorted(YARDSTICKS))
    parser.add_argument("--upstream", default="", help="base URL of the upstream, ending in /v1")
    options = parser.parse_args()
    uvloop.run(_serve(options.name, options.upstream))


if __name__ == "__main__":
    main()
