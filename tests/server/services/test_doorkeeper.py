"""Where callers sign in: who fails too often waits, who is turned away is remembered, and nobody else notices."""

from __future__ import annotations

import grpc.aio
import pytest
from tests.server.domain.meters import NOW
from tests.server.services.edge import AUTHORIZATION, CACHED_KEY, Edge, Pairs, open_edge, unary

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import errors_pb2, usage_pb2
from tokendance.gateway.v1.caller_pb2 import CallerAssertion
from tokendance.rpc import CALLER_KEY, from_rpc
from tokendance_server.domain.clock import ManualClock
from tokendance_server.domain.keys.failures import FailedSignIns
from tokendance_server.domain.usage.refusals import TurnedAway
from tokendance_server.services.call import Trust
from tokendance_server.services.doorkeeper import Doorkeeper

WRONG = ("authorization", "Bearer tdk_wrong")
CACHED = ("authorization", f"Bearer {CACHED_KEY}")


def request_id(number: int) -> str:
    """A request id that a facade may have minted."""
    return f"req_{number:026}"


def asserted(
    number: int, address: str = "192.0.2.1", surface: errors_pb2.Surface.ValueType = errors_pb2.SURFACE_CHAT
) -> Pairs:
    """What a facade tells of a caller."""
    caller = CallerAssertion(
        request_id=request_id(number),
        surface=surface,
        address=address,
        http_route="POST /v1/chat/completions",
        host="gateway.example",
        client_kind="curl",
    )
    return ((CALLER_KEY, caller.SerializeToString()),)


def keeper(per_minute: int = 2) -> tuple[Doorkeeper, TurnedAway]:
    """A doorkeeper who lets so many fail, and what it remembers."""
    clock = ManualClock(NOW)
    turned_away = TurnedAway("node_1", clock)
    return Doorkeeper(turned_away, FailedSignIns(per_minute, clock)), turned_away


async def refusal(edge: Edge, metadata: Pairs) -> GatewayError | None:
    """Call, and return why it was refused, if it was."""
    try:
        await edge.stub.CreateCompletion(unary("echo"), metadata=metadata)
    except grpc.aio.AioRpcError as error:
        return from_rpc(error)
    return None


async def test_who_fails_too_often_waits_before_the_next_look() -> None:
    """With a typed error that says how long, and no look at the store; others go on."""
    doorkeeper, _ = keeper()
    async with open_edge("local", trust=Trust.FACADE, doorkeeper=doorkeeper) as edge:
        for number in range(2):
            refused = await refusal(edge, (WRONG, *asserted(number)))
            assert refused is not None
            assert refused.code == "invalid_api_key"
        limited = await refusal(edge, (WRONG, *asserted(3)))
        assert limited is not None
        assert (limited.code, limited.retry_after_s) == ("rate_limit_exceeded", 30)
        assert edge.keys.verified == 2
        assert await refusal(edge, (AUTHORIZATION, *asserted(4, address="192.0.2.2"))) is None


async def test_a_key_at_hand_works_also_where_others_guess() -> None:
    """It costs nothing to see that it is good; one that must be looked up waits as all do."""
    doorkeeper, _ = keeper()
    async with open_edge("local", trust=Trust.FACADE, doorkeeper=doorkeeper) as edge:
        for number in range(3):
            await refusal(edge, (WRONG, *asserted(number)))
        assert await refusal(edge, (CACHED, *asserted(4))) is None
        waiting = await refusal(edge, (AUTHORIZATION, *asserted(5)))
        assert waiting is not None
        assert waiting.code == "rate_limit_exceeded"


@pytest.mark.parametrize(
    ("trust", "surface"), [(Trust.NETWORK, errors_pb2.SURFACE_CHAT), (Trust.FACADE, errors_pb2.SURFACE_ADMIN)]
)
async def test_inside_nobody_waits(trust: Trust, surface: errors_pb2.Surface.ValueType) -> None:
    """Neither services of the trust zone nor administrators."""
    doorkeeper, turned_away = keeper(1)
    async with open_edge("local", trust=trust, doorkeeper=doorkeeper) as edge:
        for number in range(4):
            refused = await refusal(edge, (WRONG, *asserted(number, surface=surface)))
            assert refused is not None
            assert refused.code == "invalid_api_key"
    assert len(turned_away) == 4


async def test_who_brings_nothing_guesses_nothing() -> None:
    """It is remembered, and does not count."""
    doorkeeper, turned_away = keeper(1)
    async with open_edge("local", trust=Trust.FACADE, doorkeeper=doorkeeper) as edge:
        for number in range(3):
            refused = await refusal(edge, asserted(number))
            assert refused is not None
            assert refused.code == "missing_api_key"
        assert await refusal(edge, (AUTHORIZATION, *asserted(4))) is None
    assert len(turned_away) == 3


@pytest.mark.parametrize(
    ("credential", "kind"),
    [
        ("tdk_wrong", usage_pb2.CREDENTIAL_KIND_API_KEY),
        ("eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJ4In0.c2ln", usage_pb2.CREDENTIAL_KIND_ID_TOKEN),
        ("sk-ant-0123456789", usage_pb2.CREDENTIAL_KIND_PROVIDER_KEY),
        ("hub_session", usage_pb2.CREDENTIAL_KIND_HUB_SESSION),
        ("something", usage_pb2.CREDENTIAL_KIND_OTHER),
    ],
)
async def test_a_call_turned_away_is_remembered_without_its_credential(
    credential: str, kind: usage_pb2.CredentialKind.ValueType
) -> None:
    """By the id that its caller saw: why, from where, with what kind of credential."""
    doorkeeper, turned_away = keeper()
    async with open_edge("local", trust=Trust.FACADE, doorkeeper=doorkeeper) as edge:
        refused = await refusal(edge, (("authorization", f"Bearer {credential}"), *asserted(1)))
    assert refused is not None
    entry = turned_away.find(request_id(1))
    assert entry is not None
    assert (entry.reason, entry.message) == (refused.reason, refused.message)
    told = entry.request
    assert (told.credential_kind, told.address, told.surface) == (kind, "192.0.2.1", errors_pb2.SURFACE_CHAT)
    assert (told.host, told.route, told.client_kind) == ("gateway.example", "POST /v1/chat/completions", "curl")
    assert credential not in repr(entry)


async def test_who_is_known_is_not_remembered_as_turned_away() -> None:
    """What a known key does is on its record."""
    doorkeeper, turned_away = keeper()
    async with open_edge("local", trust=Trust.FACADE, doorkeeper=doorkeeper) as edge:
        assert await refusal(edge, (AUTHORIZATION, *asserted(1))) is None
        assert await refusal(edge, (AUTHORIZATION, *asserted(2))) is None
    assert len(turned_away) == 0
