"""The OpenAPI document of the administration says what the schema says, and is one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from google.api import annotations_pb2
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from openapi_spec_validator import validate

from dev.gen_openapi import ROOT, main, render

VERBS = {"get", "post", "put", "patch", "delete"}


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    """The document of the committed descriptors."""
    return render(FileDescriptorSet.FromString((ROOT / "proto" / "api.binpb").read_bytes()))


def operations(document: dict[str, Any]) -> list[dict[str, Any]]:
    """All operations of a document."""
    return [operation for item in document["paths"].values() for operation in item.values()]


def test_committed_document_is_up_to_date() -> None:
    """It is generated, never edited."""
    assert main(["--check"]) == 0


def test_it_is_valid(document: dict[str, Any]) -> None:
    """By the specification's own schema; every reference leads somewhere."""
    validate(document)


def test_every_bound_rpc_is_there_once(document: dict[str, Any]) -> None:
    """Each with its callers and a description; ids are distinct."""
    files = FileDescriptorSet.FromString((ROOT / "proto" / "api.binpb").read_bytes())
    bound = {
        method.name
        for file in files.file
        for service in file.service
        for method in service.method
        if method.options.HasExtension(annotations_pb2.http)
    }
    found = operations(document)
    ids = [operation["operationId"] for operation in found]
    assert len(ids) == len(set(ids))
    assert {one.rstrip("2") for one in ids} == bound
    assert all(operation["x-tokendance-callers"] and operation["description"] for operation in found)


def test_what_the_gateway_sets_is_read_only(document: dict[str, Any]) -> None:
    """A client's generator leaves it out of requests; what people state is not marked."""
    key = document["components"]["schemas"]["Key"]["properties"]
    assert key["name"]["readOnly"] is True
    assert "readOnly" not in key["purpose"]


def test_lists_filter_in_the_query(document: dict[str, Any]) -> None:
    """Fields of nested messages are dotted, and what the path or the body holds is not repeated."""
    audit = document["paths"]["/admin/v1/organizations/{organization}/auditEvents"]["get"]
    assert [one["name"] for one in audit["parameters"]][:4] == [
        "organization",
        "page_size",
        "page_token",
        "filter.actor",
    ]
    update = document["paths"]["/admin/v1/organizations/{organization}/keys/{key}"]["patch"]
    assert [one["name"] for one in update["parameters"]] == ["organization", "key", "update_mask"]
    assert update["requestBody"]["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/Key"}


def test_stale_document_fails_the_check(tmp_path: Path) -> None:
    """One that somebody edited, or forgot to write, is noticed; writing it cures that."""
    target = tmp_path / "openapi.json"
    assert main(["--check", "--target", str(target)]) == 1
    assert main(["--target", str(target)]) == 0
    assert main(["--check", "--target", str(target)]) == 0
