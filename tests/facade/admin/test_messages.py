"""JSON to requests and answers to JSON, as the standard mapping says."""

from __future__ import annotations

import json

import pytest
from google.protobuf.message import Message

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import audit_service_pb2, errors_pb2, keys_service_pb2, organizations_service_pb2
from tokendance_facade.admin.api import FILES
from tokendance_facade.admin.bindings import Bindings
from tokendance_facade.admin.messages import read_request, write_answer

BINDINGS = Bindings(FILES)
KEY = "organizations/org_1/keys/key_1"


def read(verb: str, path: str, body: object = None, query: str = "") -> Message:
    """Return the request that such an HTTP request makes."""
    binding, values = BINDINGS.find(verb, f"/admin/v1/{path}")
    return read_request(binding, values, query, b"" if body is None else json.dumps(body).encode())


def test_a_create_takes_the_resource_as_its_body() -> None:
    """The place comes from the path, the id of the request from the query string."""
    request = read("POST", "organizations/org_1/keys", {"purpose": "Reports", "labels": {"a": "b"}}, "request_id=r1")
    wanted = keys_service_pb2.CreateKeyRequest(parent="organizations/org_1", request_id="r1")
    wanted.key.purpose = "Reports"
    wanted.key.labels["a"] = "b"
    assert request == wanted


def test_an_update_changes_what_its_body_names() -> None:
    """The name in the path wins, and neither it nor the etag is a change."""
    request = read("PATCH", KEY, {"name": "organizations/org_2/keys/key_2", "etag": "e", "purpose": "New"})
    assert isinstance(request, keys_service_pb2.UpdateKeyRequest)
    assert (request.key.name, request.key.etag, list(request.update_mask.paths)) == (KEY, "e", ["purpose"])


def test_an_update_mask_in_the_query_wins() -> None:
    """So that a field can be emptied; its paths are written as fields are written here."""
    request = read("PATCH", KEY, {}, "update_mask=display_name,labels")
    assert isinstance(request, keys_service_pb2.UpdateKeyRequest)
    assert list(request.update_mask.paths) == ["display_name", "labels"]


def test_filters_come_from_the_query() -> None:
    """Nested ones dotted, enums by name, times as RFC 3339, numbers as they are."""
    request = read(
        "GET",
        "organizations/org_1/auditEvents",
        query="page_size=5&filter.action=key.&filter.start_time=2026-01-02T03:04:05Z&filter.outcome=AUDIT_OUTCOME_REFUSED",
    )
    assert isinstance(request, audit_service_pb2.ListAuditEventsRequest)
    assert (request.parent, request.page_size, request.filter.action) == ("organizations/org_1", 5, "key.")
    assert request.filter.start_time.ToJsonString() == "2026-01-02T03:04:05Z"
    assert request.filter.outcome == audit_service_pb2.AUDIT_OUTCOME_REFUSED


def test_a_verb_takes_the_rest_of_the_request_as_its_body() -> None:
    """And a missing body is an empty one."""
    request = read("POST", f"{KEY}:rotate", {"overlap": "3600s"})
    assert isinstance(request, keys_service_pb2.RotateKeyRequest)
    assert (request.name, request.overlap.seconds) == (KEY, 3600)
    assert read("POST", f"{KEY}:revoke") == keys_service_pb2.RevokeKeyRequest(name=KEY)


@pytest.mark.parametrize(
    ("verb", "path", "body", "query"),
    [
        ("GET", "organizations/org_1/keys", None, "nonsense=1"),
        ("GET", "organizations/org_1/keys", None, "page_size=many"),
        ("GET", "organizations/org_1/keys", None, "page_size=1&page_size=2"),
        ("GET", "organizations/org_1/keys", None, "rotation_overdue=yes"),
        ("GET", "organizations/org_1/keys", None, "parent=organizations/org_2"),
        ("GET", "organizations/org_1/keys", None, "%ff=%ff"),
        ("GET", "organizations/org_1/keys", None, "&".join(f"team={n}" for n in range(300))),
        ("GET", "organizations/org_1/keys", {"page_size": 5}, ""),
        ("GET", "organizations/org_1/auditEvents", None, "filter.nonsense=1"),
        ("GET", "organizations/org_1/auditEvents", None, "filter.action.more=1"),
        ("POST", "organizations/org_1/keys", {"purpose": 5}, ""),
        ("POST", "organizations/org_1/keys", {"nonsense": 5}, ""),
        ("POST", "organizations/org_1/keys", {"purpose": "a"}, "key.purpose=b"),
        ("POST", f"{KEY}:rotate", {"overlap": "soon"}, ""),
        ("POST", f"{KEY}:rotate", {"overlap": "1s"}, "etag=e"),
        ("PATCH", KEY, {"labels": {"a": {"b": {}}}}, ""),
    ],
)
def test_what_does_not_fit_is_refused(verb: str, path: str, body: object, query: str) -> None:
    """Typed, and with words."""
    with pytest.raises(GatewayError) as raised:
        read(verb, path, body, query)
    assert raised.value.reason == errors_pb2.ERROR_REASON_INVALID_REQUEST
    assert raised.value.message


@pytest.mark.parametrize("depth", [100, 100_000])
def test_deep_json_is_refused(depth: int) -> None:
    """Without a crash, wherever the depth ends."""
    binding, values = BINDINGS.find("PATCH", f"/admin/v1/{KEY}")
    body = b'{"labels":' + b'{"a":' * depth + b"1" + b"}" * depth + b"}"
    with pytest.raises(GatewayError) as raised:
        read_request(binding, values, "", body)
    assert raised.value.reason in {errors_pb2.ERROR_REASON_INVALID_REQUEST, errors_pb2.ERROR_REASON_INVALID_JSON}


def test_an_answer_says_what_is_empty() -> None:
    """With the schema's own names, and numbers of 64 bits as text."""
    answer = json.loads(write_answer(organizations_service_pb2.ListTeamsResponse()))
    assert answer == {"teams": [], "next_page_token": ""}
