"""TokenDance ID with a certified OpenID provider, and with the development issuer: real tokens, over TCP."""

from __future__ import annotations

import base64
import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from tests.e2e.nodes import Node, running
from tests.e2e.operator_cli import tokendance
from tests.e2e.upstream import Upstream
from tests.identity_provider import AUDIENCE, IdentityProvider, running_identity_provider

from tokendance.gateway.v1 import completion_pb2 as pb
from tokendance.gateway.v1 import completions_service_pb2, keys_service_pb2
from tokendance.gateway.v1.completions_service_pb2_grpc import CompletionsServiceStub
from tokendance.gateway.v1.keys_service_pb2_grpc import KeysServiceStub
from tokendance.rpc import from_rpc


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[IdentityProvider]:
    """The provider, in a process of its own."""
    with running_identity_provider(tmp_path_factory.mktemp("provider")) as running_one:
        yield running_one


@pytest.fixture(scope="module")
def governed(
    provider: IdentityProvider, upstream: Upstream, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Node]:
    """A node that takes the tokens of the provider, found by discovery."""
    settings = {
        "SERVER__IDENTITY__ISSUER": provider.issuer,
        "SERVER__IDENTITY__AUDIENCE": AUDIENCE,
        "SERVER__IDENTITY__GROUPS": json.dumps([{"value": "gateway-admins", "role": "platform_admin"}]),
        "SERVER__IDENTITY__SUBJECTS": json.dumps([{"subject": "ci", "role": "service"}]),
        "SERVER__IDENTITY__HUB_ISSUER": "https://hub.example.com",
    }
    folder = tmp_path_factory.mktemp("governed")
    with running("one", folder, upstream.base_url, ["sim"], settings=settings) as node:
        yield node
        assert "eyJ" not in node.text


def code_of(node: Node, credential: str, rpc: str = "ListKeys", more: tuple[tuple[str, str], ...] = ()) -> str:
    """Return the code with which a call over TCP ends; `ok` for an answer."""
    calls: dict[str, tuple[Any, Any]] = {
        "ListKeys": (KeysServiceStub, keys_service_pb2.ListKeysRequest(parent="organizations/-")),
        "CheckKey": (KeysServiceStub, keys_service_pb2.CheckKeyRequest(secret="tdk_x")),
        "CreateCompletion": (
            CompletionsServiceStub,
            completions_service_pb2.CreateCompletionRequest(
                completion=pb.CompletionRequest(
                    model="demo-echo",
                    messages=[pb.Message(role=pb.ROLE_USER, parts=[pb.Part(text=pb.Text(text="Hi"))])],
                )
            ),
        ),
    }
    stub, request = calls[rpc]
    with grpc.insecure_channel(node.grpc) as channel:
        try:
            metadata = (("authorization", f"Bearer {credential}"), *more)
            getattr(stub(channel), rpc)(request, metadata=metadata, timeout=20)
        except grpc.RpcError as error:
            return from_rpc(error).code
    return "ok"


def rest_code_of(node: Node, credential: str) -> str:
    """Return the code with which a model call over REST ends."""
    body = json.dumps({"model": "demo-echo", "messages": [{"role": "user", "content": "Hi"}]}).encode()
    request = urllib.request.Request(f"{node.base_url}/chat/completions", data=body)
    request.add_header("Content-Type", "application/json")
    request.add_header("Authorization", f"Bearer {credential}")
    try:
        with urllib.request.urlopen(request, timeout=20):
            return "ok"
    except urllib.error.HTTPError as error:
        with error:
            return str(error.headers["x-tokendance-error-code"])


def admin_rest_code_of(node: Node, credential: str, headers: dict[str, str] | None = None) -> str:
    """Return the code with which a call of administration over REST ends."""
    request = urllib.request.Request(f"{node.internal[0]}/admin/v1/caller", headers=headers or {})
    request.add_header("Authorization", f"Bearer {credential}")
    try:
        with urllib.request.urlopen(request, timeout=20):
            return "ok"
    except urllib.error.HTTPError as error:
        with error:
            return str(error.headers["x-tokendance-error-code"])


def test_roles_come_from_groups_and_subjects(provider: IdentityProvider, governed: Node) -> None:
    """An administrator's group opens administration over TCP; a machine's subject has its own role, others none."""
    assert code_of(governed, provider.token("admin")) == admin_rest_code_of(governed, provider.token("admin")) == "ok"
    assert code_of(governed, provider.token("ci"), "CheckKey") == "ok"
    assert code_of(governed, provider.token("ci")) == "permission_denied"
    assert code_of(governed, provider.token("reader")) == "permission_denied"


def test_a_token_calls_no_model(provider: IdentityProvider, governed: Node) -> None:
    """Not even an administrator's, over either surface."""
    token = provider.token("admin")
    assert code_of(governed, token, "CreateCompletion") == "id_token_not_accepted"
    assert rest_code_of(governed, token) == "id_token_not_accepted"


def test_tokens_for_others_are_refused(provider: IdentityProvider, governed: Node) -> None:
    """For another service, opaque ones, forged ones, and those of the development issuer."""
    assert code_of(governed, provider.token("admin", "https://elsewhere.example.com")) == "invalid_id_token"
    assert code_of(governed, provider.token("admin", "https://gateway.example.com/opaque")) == "invalid_id_token"
    head, claims, _ = provider.token("admin").split(".")
    signature = provider.token("reader").split(".")[2]
    assert code_of(governed, f"{head}.{claims}.{signature}") == "invalid_id_token"
    assert not (governed.data_dir / "identity.pem").exists()
    done = tokendance("--data-dir", str(governed.data_dir), "id", "token", "--role", "platform_admin")
    assert done.returncode == 1
    assert "no development issuer" in done.stderr


def test_a_session_of_the_hub_is_known_by_its_issuer(governed: Node) -> None:
    """And refused as what it is, at either place."""
    parts = [{"alg": "RS256"}, {"iss": "https://hub.example.com"}]
    token = ".".join(base64.urlsafe_b64encode(json.dumps(one).encode()).rstrip(b"=").decode() for one in parts) + ".x"
    assert code_of(governed, token) == "hub_session_not_accepted"
    assert code_of(governed, token, "CreateCompletion") == "hub_session_not_accepted"


SENT = {
    "tdk_x": ("invalid_api_key", "api_key_not_accepted"),
    "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJ4In0.eA": ("id_token_not_accepted", None),
    "hub_0123456789": ("hub_session_not_accepted", "hub_session_not_accepted"),
    "sk-ant-api03-0123456789": ("provider_key_not_accepted", "provider_key_not_accepted"),
    "AIzaSy0123456789": ("provider_key_not_accepted", "provider_key_not_accepted"),
    "$A_KEY_NOT_EXPANDED": ("invalid_api_key", "invalid_id_token"),
    "nonsense": ("invalid_api_key", "invalid_id_token"),
}


@pytest.mark.parametrize("credential", SENT)
def test_the_boundary(node: Node, credential: str) -> None:
    """What is sent where it does not belong has its own code, over REST and gRPC, and stands in no log."""
    at_models, at_keys = SENT[credential]
    assert rest_code_of(node, credential) == at_models
    assert code_of(node, credential, "CreateCompletion") == at_models
    if at_keys is None:
        # The development issuer is there only where the whole node is in one process.
        at_keys = "invalid_id_token" if node.topology == "one" else "id_token_not_accepted"
    assert code_of(node, credential) == at_keys
    assert len(credential) < 10 or credential not in node.text


def test_two_different_credentials(node: Node) -> None:
    """One too many, wherever the second stands; the same one twice is one."""
    key, twice = node.api_key, (("x-api-key", node.api_key),)
    assert code_of(node, key, "CreateCompletion", twice) == "ok"
    assert code_of(node, key, "CreateCompletion", (("x-api-key", "sk-other"),)) == "credentials_conflict"
    assert code_of(node, key, "CreateCompletion", (("authorization", "Bearer tdk_y"),)) == "credentials_conflict"
    assert code_of(node, key) == "api_key_not_accepted"


def test_the_development_issuer(node: Node) -> None:
    """Its tokens open a node that is whole in one process; none that is not, and nobody's behind a proxy."""
    done = tokendance("--data-dir", str(node.data_dir), "id", "token", "--role", "platform_admin")
    if node.topology != "one":
        assert done.returncode == 1
        return
    token = done.stdout.strip()
    assert (node.data_dir / "identity.pem").stat().st_mode & 0o777 == 0o600
    assert code_of(node, token) == "ok"
    assert code_of(node, token, "CreateCompletion") == rest_code_of(node, token) == "id_token_not_accepted"
    for header in ("x-forwarded-for", "forwarded", "via", "x-real-ip", "x-forwarded-proto"):
        assert code_of(node, token, more=((header, "10.0.0.1"),)) == "invalid_id_token"
    assert admin_rest_code_of(node, token) == "ok"
    for header in ("X-Forwarded-For", "Forwarded", "Via", "X-Forwarded-Host", "CF-Connecting-IP"):
        assert admin_rest_code_of(node, token, {header: "10.0.0.1"}) == "invalid_id_token"
    auditor = tokendance("--data-dir", str(node.data_dir), "id", "token", "--role", "auditor").stdout.strip()
    assert code_of(node, auditor, "CheckKey") == "permission_denied"
    wrong = tokendance("--data-dir", str(node.data_dir), "id", "token", "--role", "member")
    assert wrong.returncode == 2
    assert "needs an organization" in wrong.stderr
    assert "eyJ" not in node.text
