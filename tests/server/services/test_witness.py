"""Which calls are told to the trail besides changes, as what, and upon which resource."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf.empty_pb2 import Empty

from tokendance.gateway.v1 import keys_service_pb2 as keys_pb
from tokendance_server.registration import FILES
from tokendance_server.services.access import read_rules
from tokendance_server.services.witness import action_of, is_change, resource_of

RULES = read_rules(FILES)
CHANGES = {path.rpartition("/")[2]: action_of(path) for path, rule in RULES.items() if is_change(rule)}


def test_changes_are_told_as_their_events_are() -> None:
    """A filter for an action finds what was done and what was refused."""
    expected = {
        "RotateKey": "key.rotate",
        "DenyKeyRequest": "key_request.deny",
        "RequestKey": "key_request.create",
        "RevealKey": "key_request.reveal",
        "SetQuota": "quota.set",
        "SuspendOrganization": "organization.suspend",
        "UpdatePolicy": "policy.update",
        "ExportAuditEvents": "audit.export",
        "DeleteProvider": "provider.delete",
    }
    assert expected.items() <= CHANGES.items()


def test_neither_reads_nor_model_calls_are_changes() -> None:
    """Nor is what services alone may call."""
    for name in ("GetKey", "ListKeys", "VerifyAuditChain", "CreateCompletion", "StreamCompletion", "CheckKey"):
        assert name not in CHANGES


@pytest.mark.parametrize(
    ("request_", "named"),
    [
        (keys_pb.RotateKeyRequest(name="organizations/org_1/keys/key_1"), "organizations/org_1/keys/key_1"),
        (keys_pb.CreateKeyRequest(parent="organizations/org_1"), "organizations/org_1"),
        (keys_pb.UpdateKeyRequest(key=keys_pb.Key(name="organizations/o/keys/k")), "organizations/o/keys/k"),
        (keys_pb.RotateKeyRequest(name="tdk_" + "a" * 49), ""),
        (keys_pb.RotateKeyRequest(name="keys/sk-" + "a" * 30), ""),
        (keys_pb.RotateKeyRequest(name="keys/AIza" + "b" * 35), ""),
        (keys_pb.RotateKeyRequest(name="a\r\nb"), ""),
        (keys_pb.RotateKeyRequest(name="organizations/%_"), ""),
        (keys_pb.RotateKeyRequest(name="a/" * 150), ""),
        (keys_pb.RotateKeyRequest(), ""),
        (Empty(), ""),
        (None, ""),
    ],
)
def test_only_what_looks_like_a_name_is_kept(request_: Any, named: str) -> None:
    """Callers write what they like, and secrets must not reach the trail."""
    assert resource_of(request_) == named
