"""Names of upstreams that are not found, or not in time: both clients call it the same, and tell no name."""

import asyncio
import socket

import pytest
import yarl
from aiohttp.abc import AbstractResolver, ResolveResult

from tokendance.errors import GatewayError
from tokendance_server.domain.catalogue.models import ProviderConfig
from tokendance_server.domain.egress import EgressPolicy
from tokendance_server.providers.transport import Client, open_transport

HOST = "upstream-canary.invalid"
WITHIN_S = 0.3
PROVIDER = ProviderConfig(id="p", kind="openai", connect_timeout_s=WITHIN_S, first_byte_timeout_s=5)


class FailingResolver(AbstractResolver):
    """Fails as it is told; None never answers."""

    def __init__(self, failure: OSError | None) -> None:
        self._failure = failure

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        if self._failure is None:
            await asyncio.Event().wait()
        raise self._failure or OSError

    async def close(self) -> None:
        """Holds nothing."""


async def failure(client: Client, resolver: AbstractResolver) -> tuple[str, str, float]:
    """The code and the words of a call, and the seconds it took."""
    transport = open_transport(client, EgressPolicy(), resolver=resolver)
    loop = asyncio.get_running_loop()
    began = loop.time()
    try:
        with pytest.raises(GatewayError) as caught:
            await transport.post(PROVIDER, yarl.URL(f"https://{HOST}/v1"), {}, b"{}", began + 10)
    finally:
        await transport.close()
    return caught.value.code, str(caught.value), loop.time() - began


@pytest.mark.parametrize("number", [socket.EAI_NONAME, socket.EAI_AGAIN, socket.EAI_FAIL])
async def test_a_name_that_fails_is_unavailable(upstream_client: Client, number: int) -> None:
    """Whatever the resolver says of it, at once."""
    code, words, took_s = await failure(upstream_client, FailingResolver(socket.gaierror(number, f"{HOST}: no")))
    assert code == "provider_unavailable"
    assert HOST not in words
    assert took_s < WITHIN_S


async def test_a_resolver_that_keeps_silent_is_given_up(upstream_client: Client) -> None:
    """Within the time for connecting, and the transport closes all the same."""
    code, words, took_s = await failure(upstream_client, FailingResolver(None))
    assert code == "provider_unavailable"
    assert HOST not in words
    assert WITHIN_S - 0.05 < took_s < WITHIN_S + 0.7
