"""What the schema promises of repeats and lost updates: a field for each, on every RPC that needs it."""

from __future__ import annotations

from typing import Any

import pytest

from tokendance.gateway.v1 import (
    keys_service_pb2,
    models_service_pb2,
    organizations_service_pb2,
    quota_service_pb2,
    status_service_pb2,
)

METHODS = {
    method.name: method
    for module in (
        keys_service_pb2,
        models_service_pb2,
        organizations_service_pb2,
        quota_service_pb2,
        status_service_pb2,
    )
    for service in module.DESCRIPTOR.services_by_name.values()
    for method in service.methods
}
# Each person changes only its own, and the last word counts.
WITHOUT_VERSION = {"UpdatePreferences"}


def _fields(message: Any) -> set[str]:
    return {field.name for field in message.fields}


@pytest.mark.parametrize("name", [name for name in METHODS if name.startswith(("Create", "Request", "Rotate"))])
def test_what_makes_something_can_be_repeated(name: str) -> None:
    """A retry after a lost answer must not make two."""
    assert "request_id" in _fields(METHODS[name].input_type)


@pytest.mark.parametrize(
    "name", [name for name in METHODS if name.startswith(("Update", "SetQuota", "SetPrices", "Approve", "Deny"))]
)
def test_what_changes_something_names_its_version(name: str) -> None:
    """By the etag of what is changed, in the request or in the resource that it holds."""
    if name in WITHOUT_VERSION:
        return
    asked = METHODS[name].input_type
    held = [field.message_type for field in asked.fields if field.message_type is not None]
    assert "etag" in _fields(asked) or any("etag" in _fields(one) for one in held)
