"""Callers: their address behind proxies, and what their User-Agent says."""

from __future__ import annotations

import tempfile

import aiohttp
import pytest
from aiohttp.test_utils import make_mocked_request
from multidict import CIMultiDict
from tests.facade.rig import KEY, open_rig

from tokendance.gateway.v1 import errors_pb2
from tokendance.gateway.v1.caller_pb2 import CallerAssertion
from tokendance_facade.callers import CallerReader, read_client, read_user_agent


@pytest.mark.parametrize(
    ("trusted", "forwarded", "address"),
    [
        ((), "9.9.9.9", "127.0.0.1"),
        (("127.0.0.1",), "9.9.9.9", "9.9.9.9"),
        (("127.0.0.0/8",), "1.1.1.1, 9.9.9.9", "9.9.9.9"),
        (("127.0.0.1", "9.9.9.9"), "1.1.1.1, 9.9.9.9", "1.1.1.1"),
        (("127.0.0.1",), "9.9.9.9, nonsense", "127.0.0.1"),
        (("10.0.0.0/8",), "9.9.9.9", "127.0.0.1"),
    ],
)
async def test_only_trusted_proxies_are_believed(trusted: tuple[str, ...], forwarded: str, address: str) -> None:
    """The first hop from the right that is not a trusted proxy is the caller."""
    async with open_rig(trusted_proxies=trusted) as rig:
        headers = {"Authorization": f"Bearer {KEY}", "X-Forwarded-For": forwarded}
        await rig.http.get(f"{rig.facade.http_url}/v1/models", headers=headers)
        assert rig.upstream.callers[0].address == address


async def test_a_unix_socket_serves_too() -> None:
    """For a proxy on the same machine, which is trusted by name."""
    with tempfile.TemporaryDirectory() as folder:
        async with open_rig(http=f"unix://{folder}/http", trusted_proxies=("unix",)) as rig:
            connector = aiohttp.UnixConnector(path=f"{folder}/http")
            async with aiohttp.ClientSession(connector=connector) as http:
                headers = {"Authorization": f"Bearer {KEY}", "X-Forwarded-For": "9.9.9.9"}
                answer = await http.get("http://gateway/v1/models", headers=headers)
                assert answer.status == 200
            assert rig.upstream.callers[0].address == "9.9.9.9"


@pytest.mark.parametrize(
    ("value", "kind", "version"),
    [
        ("AsyncOpenAI/Python 3.54.0", "openai-python", "3.54.0"),
        ("OpenAI/JS 6.49.0", "openai-node", "6.49.0"),
        ("Anthropic/Python 1.2", "anthropic-python", "1.2"),
        ("codex_exec/0.169.0 (Debian)", "codex", "0.169.0"),
        ("claude-cli/2.1.330 (external)", "claude-code", "2.1.330"),
        ("curl/8.1", "curl", "8.1"),
        ("Mozilla", "", ""),
        ("", "", ""),
    ],
)
def test_user_agents(value: str, kind: str, version: str) -> None:
    """The official clients by one name each, others by their own."""
    client = read_user_agent(value)
    assert (client.kind, client.version) == (kind, version)


def test_a_user_agent_is_bounded_printable_ascii() -> None:
    """It is somebody else's text, and goes into records."""
    client = read_user_agent("é\x01" + "x" * 500)
    assert client.user_agent == "??" + "x" * 254


@pytest.mark.parametrize(
    ("surface", "headers", "direct"),
    [
        (errors_pb2.SURFACE_ADMIN, {"Host": "gateway"}, True),
        (errors_pb2.SURFACE_ADMIN, {"X-Forwarded-For": "9.9.9.9"}, False),
        (errors_pb2.SURFACE_ADMIN, {"VIA": "1.1 proxy"}, False),
        (errors_pb2.SURFACE_ADMIN, {"forwarded": "for=9.9.9.9"}, False),
        (errors_pb2.SURFACE_CHAT, {"Host": "gateway"}, False),
    ],
)
def test_who_came_without_a_proxy_is_told_for_administration(
    surface: errors_pb2.Surface.ValueType, headers: dict[str, str], direct: bool
) -> None:
    """Where it is not, or where a proxy tells of itself, nothing is asserted."""
    request = make_mocked_request("GET", "/", headers=headers)
    assertion = CallerAssertion.FromString(CallerReader(()).read(request, "req_1", surface, "GET /"))
    assert assertion.direct is direct


@pytest.mark.parametrize(
    ("written", "told"),
    [("gateway.example:8080", "gateway.example:8080"), ("é\x01" + "x" * 500, "??" + "x" * 254), ("", "")],
)
def test_the_host_is_told_as_it_was_called(written: str, told: str) -> None:
    """It is somebody else's text, and goes into records."""
    request = make_mocked_request("GET", "/", headers={"Host": written})
    assertion = CallerAssertion.FromString(CallerReader(()).read(request, "req_1", errors_pb2.SURFACE_CHAT, "GET /"))
    assert assertion.host == told


@pytest.mark.parametrize(
    ("headers", "kind", "version"),
    [
        ({"User-Agent": "OpenAI/Python 3.54.0", "X-Stainless-Lang": "python"}, "openai-python", "3.54.0"),
        (
            {"User-Agent": "shop/1.0", "X-Stainless-Lang": "js", "X-Stainless-Package-Version": "6.49.0"},
            "openai-node",
            "6.49.0",
        ),
        ({"X-Stainless-Lang": "python", "anthropic-version": "2023-06-01"}, "anthropic-python", ""),
        ({"User-Agent": "claude-cli/2.1.330", "X-Stainless-Lang": "js"}, "claude-code", "2.1.330"),
        ({"User-Agent": "codex_exec/0.169.0 (x)"}, "codex", "0.169.0"),
        (
            {"User-Agent": "shop/1.0", "X-Stainless-Lang": "js", "X-Stainless-Package-Version": "6 or so"},
            "openai-node",
            "",
        ),
        ({"User-Agent": "shop/1.0", "X-Stainless-Lang": "cobol"}, "shop", "1.0"),
        ({}, "", ""),
    ],
)
def test_an_sdk_tells_of_itself_below_a_user_agent_of_its_own(headers: dict[str, str], kind: str, version: str) -> None:
    """Its own headers count where the User-Agent is the application's."""
    client = read_client(CIMultiDict(headers))
    assert (client.kind, client.version) == (kind, version)
