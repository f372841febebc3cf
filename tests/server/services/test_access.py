"""Who may call what: every RPC of the schema, by every kind of caller, over every kind of listener."""

from __future__ import annotations

from typing import Any

import grpc
import grpc.aio
import pytest
from google.protobuf.message_factory import GetMessageClass
from prometheus_client import CollectorRegistry
from tests.server.services.edge import AUTHORIZATION, MESSAGE_LIMIT, METADATA_LIMIT, VALIDATOR, Keys, Pairs

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import (
    access_pb2,
    audit_service_pb2,
    completions_service_pb2,
    facade_service_pb2,
    keys_service_pb2,
    models_service_pb2,
    nodes_service_pb2,
    organizations_service_pb2,
    quota_service_pb2,
    status_service_pb2,
)
from tokendance.rpc import from_rpc
from tokendance_server.domain.principals import Principal
from tokendance_server.services.access import NOBODY, Rule, check, read_rules
from tokendance_server.services.admission import Admission
from tokendance_server.services.call import Trust
from tokendance_server.services.interceptors import Chain, DeadlinePolicy
from tokendance_server.services.local_channel import LocalChannel
from tokendance_server.services.records import Recorder
from tokendance_server.services.sign_in import NOBODY_SIGNS_IN, SignIn
from tokendance_server.telemetry import Metrics

FILES = [
    module.DESCRIPTOR
    for module in (
        audit_service_pb2,
        completions_service_pb2,
        facade_service_pb2,
        keys_service_pb2,
        models_service_pb2,
        nodes_service_pb2,
        organizations_service_pb2,
        quota_service_pb2,
        status_service_pb2,
    )
]
METHODS = {
    f"/{service.full_name}/{method.name}": method
    for file in FILES
    for service in file.services_by_name.values()
    for method in service.methods
}
TOKEN = "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJtaWEifQ.c2lnbmF0dXJl"
"""What looks like an access token; whose it is the tests say."""
REFUSALS = {"missing_api_key", "api_key_not_accepted", "permission_denied"}
ANYONE, API_KEY = access_pb2.CALLER_KIND_ANYONE, access_pb2.CALLER_KIND_API_KEY
ADMIN, FACADE = access_pb2.CALLER_KIND_PLATFORM_ADMIN, access_pb2.CALLER_KIND_FACADE

# What a caller is, by the listener that it came through and by its credential. Nothing else may matter.
CALLERS: dict[tuple[Trust, str], set[int]] = {
    (Trust.NETWORK, "no credential"): {ANYONE},
    (Trust.NETWORK, "key"): {ANYONE, API_KEY},
    (Trust.FACADE, "no credential"): {ANYONE, FACADE},
    (Trust.FACADE, "key"): {ANYONE, API_KEY, FACADE},
    (Trust.OPERATOR, "no credential"): {ANYONE, ADMIN},
    (Trust.OPERATOR, "key"): {ANYONE, API_KEY},
}


def test_every_rpc_says_who_may_call_it() -> None:
    """An RPC without the option would be refused to everybody; one that lists nobody in particular is a mistake."""
    rules = read_rules(FILES)
    assert set(rules) == set(METHODS)
    for method, rule in rules.items():
        assert rule.allow, method
        assert access_pb2.CALLER_KIND_UNSPECIFIED not in rule.allow, method
        assert rule.streams == METHODS[method].server_streaming


@pytest.mark.parametrize(("trust", "credential"), CALLERS, ids=lambda value: getattr(value, "value", value))
async def test_each_rpc_admits_exactly_whom_the_schema_names(trust: Trust, credential: str) -> None:
    """Every RPC there is, as declared; whoever is refused hears which credential belongs there."""
    kinds = CALLERS[trust, credential]
    metadata: Pairs = (AUTHORIZATION,) if credential == "key" else ()
    admitted = 0
    async with _channel(trust) as channel:
        for path, method in METHODS.items():
            allowed = set(_options(method).allow)
            code = await _code_of(channel, path, metadata)
            if allowed & kinds:
                admitted += 1
                assert code not in REFUSALS, path
            elif credential == "key":
                assert code == "api_key_not_accepted", path
            else:
                assert code == ("permission_denied" if trust is Trust.OPERATOR else "missing_api_key"), path
    print(f"{trust.value}, {credential}: {admitted} of {len(METHODS)} RPCs admitted")
    assert 0 < admitted < len(METHODS)


@pytest.mark.parametrize("trust", [one for one in Trust if one is not Trust.STRANGER])
async def test_a_bad_credential_is_refused_everywhere(trust: Trust) -> None:
    """Also where none would be needed: a caller must learn that its key is not what it thinks, or not wanted at all."""
    bad = (("authorization", "Bearer tdk_bad"),)
    async with _channel(trust) as channel:
        for path, method in METHODS.items():
            allowed = set(_options(method).allow)
            looked_up = allowed & {API_KEY, ANYONE} or (trust is Trust.FACADE and FACADE in allowed)
            expected = "invalid_api_key" if looked_up else "api_key_not_accepted"
            assert await _code_of(channel, path, bad) == expected, path


ROLES = {
    "member": access_pb2.CALLER_KIND_MEMBER,
    "organization admin": access_pb2.CALLER_KIND_ORGANIZATION_ADMIN,
    "auditor": access_pb2.CALLER_KIND_AUDITOR,
    "platform admin": access_pb2.CALLER_KIND_PLATFORM_ADMIN,
    "service": access_pb2.CALLER_KIND_SERVICE,
}


class _Tokens:
    """Takes every token for one of a role in an organization."""

    def __init__(self, role: str) -> None:
        self._role = role

    async def identify(self, token: str) -> Principal:
        name = "organizations/acme/members/mia"
        return Principal(frozenset({ROLES[self._role]}), name=name, organization="organizations/acme")


@pytest.mark.parametrize("role", ROLES)
async def test_each_rpc_admits_exactly_the_roles_that_the_schema_names(role: str) -> None:
    """Every RPC there is, by a token of each role; a role that may never call one hears so, where people may."""
    admitted = 0
    async with _channel(Trust.NETWORK, SignIn(_Tokens(role))) as channel:
        for path, method in METHODS.items():
            allowed = set(_options(method).allow)
            code = await _code_of(channel, path, (("authorization", f"Bearer {TOKEN}"),))
            if allowed & {ROLES[role], ANYONE}:
                admitted += 1
                assert code not in {*REFUSALS, "id_token_not_accepted"}, path
            elif allowed & set(ROLES.values()):
                assert code == "permission_denied", path
            else:
                assert code == "id_token_not_accepted", path
    print(f"{role}: {admitted} of {len(METHODS)} RPCs admitted")
    assert 0 < admitted < len(METHODS)


def test_a_rule_without_callers_admits_nobody() -> None:
    """Forgetting the option fails closed."""
    rule = Rule("/x/Y", frozenset(), public_listener=False, streams=False)
    for kind in access_pb2.CallerKind.values():
        with pytest.raises(GatewayError):
            check(rule, Principal(frozenset({kind}), name="somebody"))
    with pytest.raises(GatewayError):
        check(rule, NOBODY)


@pytest.mark.parametrize(
    ("allow", "words"),
    [({API_KEY}, "authorization: Bearer tdk_"), ({ADMIN}, "an API key will not do")],
    ids=["key", "id"],
)
def test_who_sends_nothing_hears_what_to_send(allow: set[access_pb2.CallerKind.ValueType], words: str) -> None:
    """The sentence names the credential that belongs there."""
    with pytest.raises(GatewayError, match=words) as raised:
        check(Rule("/x/Y", frozenset(allow), public_listener=False, streams=False), NOBODY)
    assert raised.value.origin == "caller"


def _options(method: Any) -> access_pb2.Access:
    access: access_pb2.Access = method.GetOptions().Extensions[access_pb2.access]
    return access


def _channel(trust: Trust, sign_in: SignIn = NOBODY_SIGNS_IN) -> LocalChannel:
    """Return a channel on which every RPC of the schema is served, with an empty answer."""
    chain = Chain(
        trust,
        rules=read_rules(FILES),
        keys=Keys(),
        admission=Admission(10),
        deadlines=DeadlinePolicy(unary_s=5, stream_s=5, admin_s=5, margin_s=0.1),
        recorder=Recorder(Metrics(CollectorRegistry()), known_model=lambda _: False),
        validator=VALIDATOR,
        sign_in=sign_in,
    )
    handlers = {path: chain.wrap(path, _handler(method)) for path, method in METHODS.items()}
    return LocalChannel(handlers, max_message_bytes=MESSAGE_LIMIT, max_metadata_bytes=METADATA_LIMIT)


def _handler(method: Any) -> Any:
    answer = GetMessageClass(method.output_type)

    async def one(request: Any, context: Any) -> Any:
        return answer()

    async def many(request: Any, context: Any) -> Any:
        yield answer()

    if method.server_streaming:
        return grpc.unary_stream_rpc_method_handler(many)
    return grpc.unary_unary_rpc_method_handler(one)


async def _code_of(channel: LocalChannel, path: str, metadata: Pairs) -> str:
    """Call with an empty request; those that need more are refused for that, but only once they are admitted."""
    request = GetMessageClass(METHODS[path].input_type)()
    try:
        if METHODS[path].server_streaming:
            await channel.unary_stream(path)(request, metadata=metadata).read()
        else:
            await channel.unary_unary(path)(request, metadata=metadata)
    except grpc.aio.AioRpcError as error:
        return from_rpc(error).code
    return "ok"
