"""What the facade tells the server of requests that it refused by itself."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import grpc
from aiohttp.test_utils import make_mocked_request

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import errors_pb2, facade_service_pb2, usage_pb2
from tokendance_facade.callers import CallerReader
from tokendance_facade.exchange import Exchange
from tokendance_facade.refusal_reports import MOST_WAITING, RefusalReports

ERROR = GatewayError(errors_pb2.ERROR_REASON_INVALID_JSON, "The body is no JSON.")


class Gone(grpc.RpcError):
    """A server that is away."""


class Channel:
    """A channel that keeps the batches, or fails every call."""

    def __init__(self, *, gone: bool = False) -> None:
        self.batches: list[list[facade_service_pb2.RefusedRequest]] = []
        self.gone = gone

    def unary_unary(self, method: str, *_: Any, **__: Any) -> Callable[..., Any]:
        async def call(request: facade_service_pb2.RecordRefusalsRequest, timeout: float) -> Any:
            assert method.endswith("/RecordRefusals")
            self.batches.append(list(request.refusals))
            if self.gone:
                raise Gone

        return call


def reports(channel: Any) -> RefusalReports:
    """Return what tells a channel."""
    return RefusalReports(channel, CallerReader(()))


def exchange(number: int = 0, credential: str = "") -> Exchange:
    """Return a request that is refused."""
    headers = {"Authorization": f"Bearer {credential}"} if credential else {}
    request = make_mocked_request("POST", "/v1/chat/completions", {"Host": "gateway.example", **headers})
    return Exchange(request, f"req_{number}")


async def test_what_comes_together_is_told_together() -> None:
    """One call for all, with what support asks for."""
    channel = Channel()
    told = reports(channel)
    for number in range(3):
        told.note(exchange(number), ERROR, 400)
    told.note_malformed(ERROR, "req_bytes", 400)
    await told.close()
    ((first, *rest),) = channel.batches
    assert [one.caller.request_id for one in rest] == ["req_1", "req_2", "req_bytes"]
    assert (first.reason, first.message, first.http_status, first.host) == (
        errors_pb2.ERROR_REASON_INVALID_JSON,
        "The body is no JSON.",
        400,
        "gateway.example",
    )
    assert first.time.seconds > 0


async def test_only_keys_of_ours_are_passed_on() -> None:
    """Of any other credential its kind alone; of one that is too long to be a key, too."""
    channel = Channel()
    told = reports(channel)
    sent = ("tdk_mine", "sk-ant-foreign", "tdk_" + "x" * 300, "")
    for one in sent:
        told.note(exchange(credential=one), ERROR, 400)
    await told.close()
    assert [(one.secret, one.credential_kind) for one in channel.batches[0]] == [
        ("tdk_mine", usage_pb2.CREDENTIAL_KIND_API_KEY),
        ("", usage_pb2.CREDENTIAL_KIND_PROVIDER_KEY),
        ("", usage_pb2.CREDENTIAL_KIND_API_KEY),
        ("", usage_pb2.CREDENTIAL_KIND_UNSPECIFIED),
    ]


async def test_a_flood_is_bounded() -> None:
    """No more wait than one call takes; the schema allows as many."""
    channel = Channel()
    told = reports(channel)
    for number in range(MOST_WAITING + 50):
        told.note_malformed(ERROR, f"req_{number}", 400)
    await told.close()
    assert [len(one) for one in channel.batches] == [MOST_WAITING]


async def test_they_are_told_without_being_asked_and_a_server_that_is_away_harms_nobody() -> None:
    """A quarter of a second later; what could not be told is given up, and what comes afterwards is told anew."""
    channel = Channel(gone=True)
    told = reports(channel)
    told.note_malformed(ERROR, "req_1", 400)
    async with asyncio.timeout(5):
        while not channel.batches:
            await asyncio.sleep(0.05)
    channel.gone = False
    told.note_malformed(ERROR, "req_2", 400)
    await told.close()
    assert [[one.caller.request_id for one in batch] for batch in channel.batches] == [["req_1"], ["req_2"]]
