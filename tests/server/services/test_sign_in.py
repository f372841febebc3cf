"""Signing in: at which calls, from where, and what everything else that is sent hears."""

from __future__ import annotations

from typing import Any

import grpc.aio
import pytest
from tests.server.domain.identity.issuer import raw_token
from tests.server.services.edge import Edge, Pairs, ask

from tokendance.errors import GatewayError
from tokendance.forwarding import is_forwarded
from tokendance.gateway.v1 import access_pb2, caller_pb2, errors_pb2
from tokendance.gateway.v1.errors_pb2 import Surface
from tokendance.rpc import from_rpc
from tokendance_server.domain.principals import Principal
from tokendance_server.services.access import Rule
from tokendance_server.services.call import Call, Trust
from tokendance_server.services.sign_in import SignIn

ADA = Principal(frozenset({access_pb2.CALLER_KIND_PLATFORM_ADMIN}), name="identities/ada")
KEYS_ONLY = Rule("/x/Complete", frozenset({access_pb2.CALLER_KIND_API_KEY}), public_listener=True, streams=False)
PEOPLE = Rule("/x/Govern", frozenset({access_pb2.CALLER_KIND_PLATFORM_ADMIN}), public_listener=False, streams=False)
EVERYBODY = Rule("/x/Status", frozenset({access_pb2.CALLER_KIND_ANYONE}), public_listener=True, streams=False)
FACADES = Rule("/x/Report", frozenset({access_pb2.CALLER_KIND_FACADE}), public_listener=False, streams=False)
TOKEN = raw_token({"alg": "RS256"}, {"iss": "https://id.example.com"}, b"x")
HUB_TOKEN = raw_token({"alg": "RS256"}, {"iss": "https://hub.example.com"}, b"x")
FORWARDED = ("X-Forwarded-For", "x-forwarded-anything", "Forwarded", "VIA", "x-real-ip", "CF-Connecting-IP")


class Tokens:
    """Takes every token for Ada's, and counts."""

    def __init__(self) -> None:
        self.asked = 0

    async def identify(self, token: str) -> Principal:
        self.asked += 1
        return ADA


class Context:
    """As much of gRPC's context as is looked at."""

    def __init__(self, metadata: Pairs) -> None:
        self._metadata = metadata

    def invocation_metadata(self) -> Pairs:
        return self._metadata


def call_of(
    trust: Trust = Trust.NETWORK,
    *,
    surface: Surface.ValueType = errors_pb2.SURFACE_GRPC,
    direct: bool | None = None,
    metadata: Pairs = (),
) -> Call:
    """Return a call; `direct` is what a facade asserts, None for one that asserts nothing."""
    context: Any = Context(metadata)
    call = Call(context, "/x/Y", trust, 0.0)
    call.surface = surface
    if direct is not None:
        call.caller = caller_pb2.CallerAssertion(surface=surface, direct=direct)
    return call


@pytest.mark.parametrize("rule", [PEOPLE, EVERYBODY])
@pytest.mark.parametrize(
    "call", [call_of(), call_of(Trust.OPERATOR), call_of(Trust.FACADE, surface=errors_pb2.SURFACE_ADMIN, direct=False)]
)
async def test_people_sign_in_where_they_may_be(rule: Rule, call: Call) -> None:
    """Over gRPC and the administration surface of REST."""
    assert await SignIn(Tokens()).identify(rule, call, TOKEN) is ADA


@pytest.mark.parametrize(
    ("rule", "call"),
    [
        (KEYS_ONLY, call_of()),
        (FACADES, call_of()),
        (PEOPLE, call_of(Trust.FACADE, surface=errors_pb2.SURFACE_CHAT, direct=True)),
        (PEOPLE, call_of(Trust.FACADE, surface=errors_pb2.SURFACE_MODELS, direct=True)),
        (EVERYBODY, call_of(Trust.FACADE, surface=errors_pb2.SURFACE_GATEWAY, direct=True)),
        (PEOPLE, call_of(Trust.FACADE)),
    ],
)
async def test_a_token_is_not_taken_elsewhere(rule: Rule, call: Call) -> None:
    """Refused by its form: nobody looks at it."""
    tokens = Tokens()
    with pytest.raises(GatewayError) as caught:
        await SignIn(tokens).identify(rule, call, TOKEN)
    assert caught.value.code == "id_token_not_accepted"
    assert "tdk_" in caught.value.message
    assert tokens.asked == 0


async def test_without_an_issuer_nobody_signs_in() -> None:
    """And is told where to set one."""
    with pytest.raises(GatewayError, match=r"\[server\.identity\]") as caught:
        await SignIn().identify(PEOPLE, call_of(), TOKEN)
    assert caught.value.code == "id_token_not_accepted"


@pytest.mark.parametrize("rule", [PEOPLE, KEYS_ONLY])
@pytest.mark.parametrize(
    ("credential", "code"),
    [
        ("ahs-0123", "hub_session_not_accepted"),
        ("hub_0123", "hub_session_not_accepted"),
        (HUB_TOKEN, "hub_session_not_accepted"),
        ("sk-0123", "provider_key_not_accepted"),
        ("AIza0123", "provider_key_not_accepted"),
        ("nonsense", None),
        ("$KEY", None),
    ],
)
async def test_everything_else_is_named(rule: Rule, credential: str, code: str | None) -> None:
    """With what belongs there instead, and without a word of it."""
    tokens = Tokens()
    sign_in = SignIn(tokens, hub_prefixes=("ahs-",), hub_issuer="https://hub.example.com")
    with pytest.raises(GatewayError) as caught:
        await sign_in.identify(rule, call_of(), credential)
    assert caught.value.code == (code or ("invalid_id_token" if rule is PEOPLE else "invalid_api_key"))
    assert ("an access token of TokenDance ID" if rule is PEOPLE else "tdk_") in caught.value.message
    assert credential not in caught.value.message
    assert tokens.asked == 0


@pytest.mark.parametrize(
    "call",
    [
        *(call_of(metadata=((name.lower(), "10.0.0.1"),)) for name in FORWARDED),
        call_of(Trust.FACADE, surface=errors_pb2.SURFACE_ADMIN, direct=False),
        call_of(Trust.OPERATOR, metadata=(("via", "1.1 proxy"),)),
    ],
)
async def test_the_development_issuer_is_for_direct_callers(call: Call) -> None:
    """Where a proxy tells of itself, somebody reaches the node from elsewhere."""
    tokens = Tokens()
    with pytest.raises(GatewayError, match="proxy") as caught:
        await SignIn(tokens, direct_only=True).identify(PEOPLE, call, TOKEN)
    assert caught.value.code == "invalid_id_token"
    assert tokens.asked == 0


@pytest.mark.parametrize(
    "call",
    [
        call_of(metadata=(("user-agent", "x"), ("x-request-id", "y"))),
        call_of(Trust.FACADE, surface=errors_pb2.SURFACE_ADMIN, direct=True),
    ],
)
async def test_direct_callers_may_use_it(call: Call) -> None:
    """Nothing tells of a proxy."""
    assert await SignIn(Tokens(), direct_only=True).identify(PEOPLE, call, TOKEN) is ADA


@pytest.mark.parametrize("name", FORWARDED)
def test_headers_of_proxies_are_known_in_any_case(name: str) -> None:
    """One is enough."""
    assert is_forwarded(["host", name])
    assert not is_forwarded(["host", "user-agent", "x-api-key", "forwarding"])


@pytest.mark.parametrize("credential", [TOKEN, "hub_0123", "sk-0123", "nonsense"])
async def test_no_store_is_asked_about_what_is_no_key(edge: Edge, credential: str) -> None:
    """Over both channels, and the servicer does not run."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await ask(edge, "unary", "echo", metadata=(("authorization", f"Bearer {credential}"),))
    assert from_rpc(caught.value).code.endswith(("not_accepted", "invalid_api_key"))
    assert (edge.keys.verified, edge.servicer.started) == (0, 0)
