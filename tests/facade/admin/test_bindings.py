"""A method and a path mean one RPC, or none."""

from __future__ import annotations

import itertools

import pytest

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import errors_pb2, keys_service_pb2
from tokendance_facade.admin.api import FILES
from tokendance_facade.admin.bindings import Bindings

BINDINGS = Bindings(FILES)


@pytest.mark.parametrize(
    ("verb", "path", "rpc", "values"),
    [
        ("GET", "organizations/org_1/keys", "ListKeys", {"parent": "organizations/org_1"}),
        ("POST", "organizations/org_1/keys", "CreateKey", {"parent": "organizations/org_1"}),
        ("HEAD", "organizations/org_1/keys/key_1", "GetKey", {"name": "organizations/org_1/keys/key_1"}),
        ("PATCH", "organizations/org_1/keys/key_1", "UpdateKey", {"key.name": "organizations/org_1/keys/key_1"}),
        ("POST", "organizations/org_1/keys/key_1:rotate", "RotateKey", {"name": "organizations/org_1/keys/key_1"}),
        ("GET", "organizations/-/auditEvents:verify", "VerifyAuditChain", {"parent": "organizations/-"}),
        ("GET", "platform/auditEvents", "ListAuditEvents", {"parent": "platform"}),
        ("DELETE", "models/vendor/name:8b", "DeleteModel", {"name": "models/vendor/name:8b"}),
        ("DELETE", "models/vendor%2Fname%3A8b", "DeleteModel", {"name": "models/vendor/name:8b"}),
        ("GET", "organizations/org_1%20%25", "GetOrganization", {"name": "organizations/org_1 %"}),
        ("GET", "caller", "GetCaller", {}),
    ],
)
def test_a_path_means_an_rpc(verb: str, path: str, rpc: str, values: dict[str, str]) -> None:
    """Variables are decoded once; what lies behind a colon is the verb, except in names of models."""
    binding, found = BINDINGS.find(verb, f"/admin/v1/{path}")
    assert (binding.method.name, found) == (rpc, values)


@pytest.mark.parametrize(
    "path",
    ["", "keys", "organizations/", "organizations/a/b", "organizations/a/keys/", "caller/", "models/", "models/%FF"],
)
def test_another_path_is_not_found(path: str) -> None:
    """Whatever the method."""
    with pytest.raises(GatewayError) as raised:
        BINDINGS.find("GET" if path != "models/%FF" else "DELETE", f"/admin/v1/{path}")
    assert raised.value.reason == errors_pb2.ERROR_REASON_NOT_FOUND


def test_another_method_is_told_which_there_are() -> None:
    """For the answer's Allow header."""
    with pytest.raises(GatewayError) as raised:
        BINDINGS.find("PUT", "/admin/v1/organizations/org_1/keys/key_1")
    assert raised.value.reason == errors_pb2.ERROR_REASON_METHOD_NOT_ALLOWED
    assert raised.value.metadata["allow"] == "GET, PATCH"


def test_no_two_rpcs_claim_one_path() -> None:
    """A path that one template makes is taken by no template before it, with the same method."""
    for one, other in itertools.combinations(BINDINGS, 2):
        if one.verb == other.verb:
            path = other.template
            for variable in other.variables:
                start = path.index(f"{{{variable}=")
                end = path.index("}", start)
                path = (
                    path[:start]
                    + path[start:end].partition("=")[2].replace("**", "x").replace("*", "x")
                    + path[end + 1 :]
                )
            assert one.values(path) is None, (one.template, other.template)


def test_an_rpc_is_called_by_its_grpc_path() -> None:
    """As the stubs call it."""
    binding, _ = BINDINGS.find("GET", "/admin/v1/organizations/org_1/keys")
    service = keys_service_pb2.DESCRIPTOR.services_by_name["KeysService"].full_name
    assert binding.rpc == f"/{service}/ListKeys"
