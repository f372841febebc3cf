"""Credentials where they do not belong: on every listener each has its own code, a sentence, and no trace."""

from __future__ import annotations

import base64
import http.client
import json
import socket
import sqlite3
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from tests.e2e.nodes import Node, free_ports, running
from tests.e2e.upstream import Upstream

from tokendance.credentials import checksum
from tokendance.gateway.v1 import completion_pb2 as pb
from tokendance.gateway.v1 import completions_service_pb2, keys_service_pb2, models_service_pb2
from tokendance.gateway.v1.completions_service_pb2_grpc import CompletionsServiceStub
from tokendance.gateway.v1.keys_service_pb2_grpc import KeysServiceStub
from tokendance.gateway.v1.models_service_pb2_grpc import ModelsServiceStub
from tokendance.rpc import from_rpc

CHAT = json.dumps({"model": "demo-echo", "messages": [{"role": "user", "content": "Hi"}]})
HUB = "https://hub.example.com"


def _jwt(**claims: Any) -> str:
    parts = [{"alg": "RS256", "typ": "at+jwt", "kid": "k"}, claims]
    return ".".join(base64.urlsafe_b64encode(json.dumps(one).encode()).rstrip(b"=").decode() for one in parts) + ".AAAA"


UNKNOWN_KEY = "tdk_" + "canary0" * 6 + "c"
UNKNOWN_KEY += checksum(UNKNOWN_KEY)
# What is sent as a bearer -> the code where keys belong, and the one where people do.
SENT = {
    "an ID token": (_jwt(iss="https://id.example.com", canary=1), "id_token_not_accepted", "invalid_id_token"),
    "a token without signature": (
        _jwt(iss="https://id.example.com", canary=2).removesuffix("AAAA"),
        "id_token_not_accepted",
        "invalid_id_token",
    ),
    "an unknown key": (UNKNOWN_KEY, "invalid_api_key", "api_key_not_accepted"),
    "a mistyped key": (UNKNOWN_KEY[:-1] + "0", "invalid_api_key", "api_key_not_accepted"),
    "a key cut short": (UNKNOWN_KEY[:30], "invalid_api_key", "api_key_not_accepted"),
    "a key of OpenAI": ("sk-proj-canary0123456789", "provider_key_not_accepted", "provider_key_not_accepted"),
    "a key of Anthropic": ("sk-ant-api03-canary0123", "provider_key_not_accepted", "provider_key_not_accepted"),
    "a key of Google": ("AIzaSycanary0123456789", "provider_key_not_accepted", "provider_key_not_accepted"),
    "a hub's session": ("hub_canary0123456789", "hub_session_not_accepted", "hub_session_not_accepted"),
    "one by a configured prefix": ("ahs-canary0123456789", "hub_session_not_accepted", "hub_session_not_accepted"),
    "one by its issuer": (_jwt(iss=HUB, canary=3), "hub_session_not_accepted", "hub_session_not_accepted"),
    "a variable": ("$TOKENDANCE_API_KEY", "invalid_api_key", "invalid_id_token"),
    "nonsense": ("nonsense-canary", "invalid_api_key", "invalid_id_token"),
}
# Further headers, and the query, besides a good key -> the code, wherever it is sent.
BESIDES = {
    "another key in x-api-key": ({"x-api-key": UNKNOWN_KEY}, "", "credentials_conflict"),
    "a provider's key in x-api-key": ({"x-api-key": "sk-ant-canary0123456789"}, "", "credentials_conflict"),
    "a key in a cookie": ({"cookie": f"a=1; b={UNKNOWN_KEY}"}, "", "credential_misplaced"),
    "a provider's key in a cookie": ({"cookie": "b=sk-ant-canary0123456789"}, "", "credential_misplaced"),
    "a key in the query": ({}, f"?api_key={UNKNOWN_KEY}", "credential_misplaced"),
    "a key under any name": ({}, f"?x={UNKNOWN_KEY}", "credential_misplaced"),
    "a token in the query": ({}, f"?x={_jwt(canary=4)}", "credential_misplaced"),
}
REST = {"chat": ("POST", "/v1/chat/completions", CHAT), "models": ("GET", "/v1/models", "")}
PEOPLE = {"caller": ("GET", "/admin/v1/caller", ""), "keys": ("GET", "/admin/v1/organizations/-/keys", "")}


class Place:
    """A node with every listener, and what is asked there."""

    def __init__(self, node: Node, outside: str) -> None:
        self.node = node
        self.outside = outside

    def rest(
        self, which: str, credential: str, *, headers: dict[str, str] | None = None, query: str = ""
    ) -> tuple[str, str]:
        """Return code and sentence of a request to the public or the internal listener."""
        method, path, body = (REST | PEOPLE)[which]
        origin = self.node.origin if which in REST else self.node.internal[0]
        connection = http.client.HTTPConnection(origin.removeprefix("http://"), timeout=10)
        sent = {"Authorization": f"Bearer {credential}", **({"Content-Type": "application/json"} if body else {})}
        try:
            connection.request(method, path + query, body or None, sent | (headers or {}))
            answer = connection.getresponse()
            content = answer.read()
        finally:
            connection.close()
        if answer.status < 300:
            return "ok", ""
        error = json.loads(content)["error"]
        assert answer.status in (400, 401, 403)
        assert answer.headers["x-tokendance-error-code"] == error["code"]
        assert answer.headers["x-should-retry"] == "false"
        return error["code"], error["message"]

    def rpc(self, which: str, credential: str, **headers: str) -> tuple[str, str]:
        """Return code and sentence of a call to either gRPC listener."""
        message = pb.Message(role=pb.ROLE_USER, parts=[pb.Part(text=pb.Text(text="Hi"))])
        completion = pb.CompletionRequest(model="demo-echo", messages=[message])
        calls: dict[str, tuple[str, Any, Any]] = {
            "complete": (
                "CreateCompletion",
                CompletionsServiceStub,
                completions_service_pb2.CreateCompletionRequest(completion=completion),
            ),
            "outside": ("ListModels", ModelsServiceStub, models_service_pb2.ListModelsRequest()),
            "keys": ("ListKeys", KeysServiceStub, keys_service_pb2.ListKeysRequest(parent="organizations/-")),
        }
        name, stub, request = calls[which]
        metadata = (("authorization", f"Bearer {credential}"), *headers.items())
        with grpc.insecure_channel(self.outside if which == "outside" else self.node.grpc) as channel:
            try:
                getattr(stub(channel), name)(request, metadata=metadata, timeout=10)
            except grpc.RpcError as failure:
                error = from_rpc(failure)
                assert not error.spec.retryable
                return error.code, error.message
        return "ok", ""


@pytest.fixture(scope="module")
def place(upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """The node; nothing of what was sent to it may be found anywhere afterwards."""
    (port,) = free_ports(1)
    settings = {
        "SERVER__GRPC_PUBLIC": f"127.0.0.1:{port}",
        "SERVER__IDENTITY__HUB_PREFIXES": json.dumps(["ahs-"]),
        "SERVER__IDENTITY__HUB_ISSUER": HUB,
    }
    folder = tmp_path_factory.mktemp("boundary")
    with running("one", folder, upstream.base_url, ["sim"], settings=settings) as node:
        yield Place(node, f"127.0.0.1:{port}")
        kept = node.text.encode() + b"".join(path.read_bytes() for path in node.data_dir.rglob("*") if path.is_file())
        sent = [one for one, _, _ in SENT.values() if "canary" in one or one.startswith("eyJ")]
        assert [one for one in sent if one.encode() in kept] == []
        assert b"canary" not in kept


@pytest.mark.parametrize("sent", SENT)
@pytest.mark.parametrize("where", [*REST, *PEOPLE, "complete", "outside", "rpc keys"])
def test_each_has_its_code_and_says_what_belongs_there(place: Place, sent: str, where: str) -> None:
    """The same one over REST and gRPC, inside and outside; without a word of what was sent."""
    credential, for_keys, for_people = SENT[sent]
    if where in REST or where in PEOPLE:
        code, told = place.rest(where, credential)
    else:
        code, told = place.rpc(where.removeprefix("rpc "), credential)
    people = where in PEOPLE or where == "rpc keys"
    assert code == (for_people if people else for_keys)
    assert credential not in told
    assert "canary" not in told
    assert told.endswith((".", ")."))
    if people:
        assert "token" in told.lower() or "session" in told.lower()
    elif not credential.startswith("tdk_"):
        assert "tdk_" in told


@pytest.mark.parametrize("case", BESIDES)
@pytest.mark.parametrize("where", [*REST, "complete", "outside"])
def test_a_good_key_does_not_make_up_for_a_stray_one(place: Place, case: str, where: str) -> None:
    """Another one, or one in a place that is written down on the way."""
    headers, query, expected = BESIDES[case]
    if where in REST:
        assert place.rest(where, place.node.api_key, headers=headers, query=query)[0] == expected
    elif not query:
        assert place.rpc(where, place.node.api_key, **headers)[0] == expected


@pytest.mark.parametrize("case", [name for name, (_, _, code) in BESIDES.items() if code == "credential_misplaced"])
@pytest.mark.parametrize("where", PEOPLE)
def test_stray_keys_are_refused_where_people_come_too(place: Place, case: str, where: str) -> None:
    """Before anything else of the request is looked at."""
    headers, query, expected = BESIDES[case]
    assert place.rest(where, _jwt(iss="x"), headers=headers, query=query)[0] == expected


def test_one_key_in_two_headers_is_one(place: Place) -> None:
    """Agents send it so."""
    key = place.node.api_key
    for where in REST:
        assert place.rest(where, key, headers={"x-api-key": key})[0] == "ok"
    for where in ("complete", "outside"):
        assert place.rpc(where, key, **{"x-api-key": key})[0] == "ok"
    assert place.rest("caller", key, headers={"x-api-key": key})[0] == "api_key_not_accepted"


def test_two_authorizations_are_one_too_many(place: Place) -> None:
    """Whichever is good: who reads the first and who reads the second would not agree."""
    host = place.node.origin.removeprefix("http://")
    for first, second in ((place.node.api_key, UNKNOWN_KEY), (UNKNOWN_KEY, place.node.api_key)):
        connection = http.client.HTTPConnection(host, timeout=10)
        connection.putrequest("GET", "/v1/models")
        for one in (first, second):
            connection.putheader("Authorization", f"Bearer {one}")
        connection.endheaders()
        answer = connection.getresponse()
        assert answer.headers["x-tokendance-error-code"] == "credentials_conflict"
        answer.read()
        connection.close()


# Other spellings of an internal path, and what they are to somebody without a credential. With an API key they are
# refused for the key, whatever they are.
BY_THE_ROUTE = {
    "/admin/v1/caller": 401,
    "/admin/v1/%63aller": 404,
    "//admin/v1/caller": 404,
    "/admin//v1/caller": 404,
    "/admin/v1/caller/": 404,
    "/admin/v1/caller;a=1": 404,
    "/ADMIN/v1/caller": 404,
    "/livez/../admin/v1/caller": 404,
    "/livez/%2e%2e/admin/v1/caller": 404,
    "/v1/models": 404,
}
# Words by which proxies tell what was asked of them; nobody here is told by them what is asked.
REWRITES = {
    "X-Original-URL": "/livez",
    "X-Rewrite-URL": "/livez",
    "X-Forwarded-Path": "/livez",
    "X-Forwarded-Prefix": "/livez",
    "X-HTTP-Method-Override": "GET",
    "X-Forwarded-For": "127.0.0.1",
    "X-Forwarded-Host": "localhost",
    "Forwarded": "for=127.0.0.1;host=localhost",
}


@pytest.mark.parametrize("path", BY_THE_ROUTE)
def test_the_route_decides_who_may_come(place: Place, path: str) -> None:
    """F7: no other spelling of a path is served by another rule than its own, with a key or without."""
    assert asked(place.node.internal[0], path, place.node.api_key) == (401, "api_key_not_accepted")
    assert asked(place.node.internal[0], path, "")[0] == BY_THE_ROUTE[path]


@pytest.mark.parametrize("header", REWRITES)
def test_words_of_proxies_do_not_change_what_is_asked(place: Place, header: str) -> None:
    """F7: the internal path stays internal, the public one public, whoever says otherwise."""
    internal, origin = place.node.internal[0], place.node.origin
    said = {header: REWRITES[header]}
    assert asked(internal, "/admin/v1/caller", place.node.api_key, **said) == (401, "api_key_not_accepted")
    assert asked(origin, "/v1/models", UNKNOWN_KEY, **said) == (401, "invalid_api_key")
    assert asked(origin, "/admin/v1/caller", "", **said) == (404, "not_found")


def test_a_key_in_a_path_or_a_body_opens_nothing(place: Place) -> None:
    """F4: only headers carry one; what stands elsewhere is a name that nobody has."""
    key = place.node.api_key
    assert asked(place.node.origin, f"/v1/models/{key}", "")[0] == 401
    connection = http.client.HTTPConnection(place.node.origin.removeprefix("http://"), timeout=10)
    document = json.loads(CHAT) | {"api_key": key, "authorization": f"Bearer {key}"}
    connection.request("POST", "/v1/chat/completions", json.dumps(document), {"Content-Type": "application/json"})
    answer = connection.getresponse()
    assert (answer.status, answer.headers["x-tokendance-error-code"]) == (401, "missing_api_key")
    answer.read()
    connection.close()


@pytest.mark.parametrize(
    "value", ["tdk_a%0d%0ab", "tdk_'; DROP TABLE keys;--", "tdk_" + "a" * 8192, "tdk_a\x00b", "tdk_ä"]
)
def test_odd_keys_are_refused_without_a_word_of_them(place: Place, value: str) -> None:
    """F4: 8 kB, SQL, NUL, encoded line ends, what is not ASCII: refused like any other, or as no HTTP at all."""
    host, _, port = place.node.origin.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        lines = [
            "GET /v1/models HTTP/1.1",
            f"Host: {host}:{port}",
            "Connection: close",
            f"Authorization: Bearer {value}",
        ]
        connection.sendall("\r\n".join([*lines, "", ""]).encode())
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    assert answer.split(b" ")[1] in (b"400", b"401")
    assert b"x-request-id" in answer.lower()
    assert value.encode() not in answer


def asked(origin: str, path: str, credential: str, **headers: str) -> tuple[int, str]:
    """Ask for a path as it is written; return the status and the error's code."""
    connection = http.client.HTTPConnection(origin.removeprefix("http://"), timeout=10)
    if credential:
        headers["Authorization"] = f"Bearer {credential}"
    connection.putrequest("GET", path, skip_accept_encoding=True)
    for name, value in headers.items():
        connection.putheader(name, value)
    connection.endheaders()
    answer = connection.getresponse()
    answer.read()
    connection.close()
    return answer.status, answer.headers.get("x-tokendance-error-code") or ""


def test_the_database_knows_one_key(place: Place) -> None:
    """A refused credential leaves no row."""
    with sqlite3.connect(f"file:{place.node.data_dir / 'gateway.db'}?mode=ro", uri=True) as database:
        ((count,),) = database.execute("SELECT count(*) FROM key_secrets").fetchall()
    database.close()
    assert count == 1
