"""The listener for callers outside, tried with every RPC of the schema through the doors of a real node."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
from google.protobuf.message_factory import GetMessageClass
from prometheus_client import CollectorRegistry
from tests.server.services.test_access import METHODS

from tokendance.rpc import from_rpc
from tokendance_server.app import open_server
from tokendance_server.config import ServerConfig
from tokendance_server.registration import FILES
from tokendance_server.server import Server
from tokendance_server.services.access import read_rules

PUBLIC = {path for path, rule in read_rules(FILES).items() if rule.public_listener}
TOKEN = "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJ4In0.c2lnbmF0dXJl"


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    """A node with both listeners; its first key opens what keys open."""
    with tempfile.TemporaryDirectory(prefix="td") as folder:
        config = ServerConfig(data_dir=Path(folder) / "d", grpc="127.0.0.1:0", grpc_public="127.0.0.1:0")
        server = await open_server(config, registry=CollectorRegistry(), loopback_only=True)
        await server.start()
        try:
            yield server
        finally:
            await server.stop(0)


async def _code(channel: grpc.aio.Channel, path: str, credential: str) -> str:
    """Call with an empty request; whoever is admitted hears of that, or is answered."""
    method = METHODS[path]
    metadata = (("authorization", f"Bearer {credential}"),) if credential else ()
    kind = channel.unary_stream if method.server_streaming else channel.unary_unary
    call: Any = kind(
        path,
        request_serializer=lambda message: message.SerializeToString(),
        response_deserializer=GetMessageClass(method.output_type).FromString,
    )
    try:
        if method.server_streaming:
            await call(GetMessageClass(method.input_type)(), metadata=metadata, timeout=5).read()
        else:
            await call(GetMessageClass(method.input_type)(), metadata=metadata, timeout=5)
    except grpc.aio.AioRpcError as error:
        return from_rpc(error).code
    return "ok"


async def test_outside_there_is_exactly_what_the_schema_marks(server: Server) -> None:
    """For each credential; nothing that is not marked tells that it is there inside."""
    assert server.first_key is not None
    assert server.grpc_public_address not in (None, server.grpc_address)
    async with grpc.aio.insecure_channel(str(server.grpc_public_address)) as channel:
        for path in METHODS:
            for credential in ("", server.first_key.secret, TOKEN):
                code = await _code(channel, path, credential)
                if path not in PUBLIC:
                    assert code == "unimplemented", (path, credential)
                elif credential == TOKEN:
                    assert code == "id_token_not_accepted", path
                else:
                    assert code not in ("api_key_not_accepted", "permission_denied"), (path, credential)
    print(f"{len(METHODS)} RPCs, 3 credentials: {len(PUBLIC)} are there")
    assert 0 < len(PUBLIC) < len(METHODS)


async def test_inside_everything_is_there(server: Server) -> None:
    """The one listener takes nothing from the other, whichever was called first."""
    keys = "/tokendance.gateway.v1.KeysService/ListKeys"
    async with (
        grpc.aio.insecure_channel(str(server.grpc_public_address)) as outside,
        grpc.aio.insecure_channel(str(server.grpc_address)) as inside,
    ):
        assert await _code(outside, keys, "") == "unimplemented"
        assert await _code(inside, keys, "") == "missing_api_key"
        assert await _code(outside, keys, "") == "unimplemented"
