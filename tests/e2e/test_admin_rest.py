"""Administration over REST on the internal listener: the same RPCs, the caller's own ID token, the same errors."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.nodes import Node, running
from tests.e2e.operator_cli import documents, tokendance


@dataclass(frozen=True)
class Answer:
    """An answer of the administration: `document` is its JSON, empty where it has several lines."""

    status: int
    headers: dict[str, str]
    text: str

    @property
    def document(self) -> Any:
        """The body."""
        return json.loads(self.text)

    @property
    def code(self) -> str:
        """The stable code of an error."""
        return str(self.document["error"]["code"])


@dataclass(frozen=True)
class Admin:
    """Somebody who administers a node over REST."""

    url: str
    token: str

    def __call__(self, method: str, path: str, body: object = None, **headers: str) -> Answer:
        """Send a request."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url}/admin/v1/{path}", data=data, method=method)
        if data is not None:
            request.add_header("Content-Type", "application/json")
        if self.token:
            request.add_header("Authorization", f"Bearer {self.token}")
        for name, value in headers.items():
            request.add_header(name.replace("_", "-"), value)
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return Answer(answer.status, dict(answer.headers.items()), answer.read().decode())
        except urllib.error.HTTPError as error:
            with error:
                return Answer(error.code, dict(error.headers.items()), error.read().decode())


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A node of these tests alone."""
    with running("one", tmp_path_factory.mktemp("admin"), "http://127.0.0.1:9/v1", []) as node:
        yield node
        assert "eyJ" not in node.text


@pytest.fixture
def admin(single: Node) -> Admin:
    """A platform administrator."""
    return sign_in(single, "--role", "platform_admin")


def sign_in(node: Node, *role: str) -> Admin:
    """Return somebody with a role, by the development issuer."""
    done = tokendance("--data-dir", str(node.data_dir), "id", "token", *role)
    return Admin(node.internal[0], done.stdout.strip())


def draft(data_dir: Path) -> tuple[str, dict[str, Any]]:
    """Return an organization's name, and a key that it could have."""
    first = documents(data_dir, "keys", "list")[-1]
    organization = "/".join(first["name"].split("/")[:2])
    return organization, {
        "purpose": "Reports",
        "owner": first["owner"],
        "team": first["team"],
        "rotation": {"period": "2592000s", "responsible": first["owner"]},
        "quota": {"inherited_from": organization},
    }


def test_the_life_of_a_key(single: Node, admin: Admin) -> None:
    """Made once however often it is asked for, changed under its etag, rotated, revoked, and told by the audit."""
    organization, key = draft(single.data_dir)
    made = admin("POST", f"{organization}/keys?request_id=once", key)
    assert made.status == 200, made.text
    assert made.headers["cache-control"] == "no-store"
    secret, name, etag = made.document["secret"], made.document["key"]["name"], made.document["key"]["etag"]
    assert secret.startswith("tdk_")
    again = admin("POST", f"{organization}/keys?request_id=once", key).document
    assert (again["key"]["name"], again["secret"]) == (name, "")
    changed = admin("PATCH", name, {"purpose": "Other reports", "etag": etag})
    assert changed.document["key"]["purpose"] == "Other reports"
    assert changed.document["key"]["team"] == key["team"]
    stale = admin("PATCH", name, {"purpose": "Lost", "etag": etag})
    assert (stale.status, stale.code) == (409, "version_conflict")
    assert stale.headers["x-should-retry"] == "false"
    assert admin("POST", f"{name}:rotate", {"overlap": "60s"}).document["secret"] != secret
    assert admin("POST", f"{name}:revoke", {"reason": "done"}).document["key"]["state"] == "KEY_STATE_REVOKED"
    events = admin("GET", f"{organization}/auditEvents?filter.resource={name}").document["audit_events"]
    assert [one["action"] for one in events] == ["key.revoke", "key.rotate", "key.update", "key.create"]
    assert {one["source"] for one in events} == {"AUDIT_SOURCE_REST"}


def test_lists_have_pages(single: Node, admin: Admin) -> None:
    """As over gRPC."""
    organization, key = draft(single.data_dir)
    for number in range(3):
        assert admin("POST", f"{organization}/keys", key | {"purpose": f"Page {number}"}).status == 200
    page = admin("GET", f"{organization}/keys?page_size=2").document
    assert len(page["keys"]) == 2
    rest = admin("GET", f"{organization}/keys?page_size=1000&page_token={page['next_page_token']}").document
    assert not {one["name"] for one in page["keys"]} & {one["name"] for one in rest["keys"]}


def test_an_export_is_lines_of_json(single: Node, admin: Admin) -> None:
    """Streamed, each line one message."""
    organization, _ = draft(single.data_dir)
    answer = admin("GET", f"{organization}/auditEvents:export")
    assert answer.headers["content-type"] == "application/x-ndjson; charset=utf-8"
    lines = [json.loads(line) for line in answer.text.splitlines() if line]
    assert sum(len(line["audit_events"]) for line in lines) >= 1


def test_who_may_what(single: Node, admin: Admin) -> None:
    """By the token alone; every refusal has the code and the request id of the one table."""
    organization, key = draft(single.data_dir)
    auditor = sign_in(single, "--role", "auditor", "--organization", organization.partition("/")[2])
    assert auditor("GET", f"{organization}/auditEvents").status == 200
    refused = auditor("POST", f"{organization}/keys", key)
    assert (refused.status, refused.code) == (403, "permission_denied")
    nobody = Admin(admin.url, "")("GET", "organizations")
    assert (nobody.status, nobody.code) == (401, "missing_api_key")
    assert Admin(admin.url, single.api_key)("GET", "organizations").code == "api_key_not_accepted"
    assert Admin(admin.url, "eyJhbGciOiJub25lIn0.e30.")("GET", "organizations").code == "invalid_id_token"
    assert admin("GET", "organizations", Via="1.1 proxy").code == "invalid_id_token"
    for answer in (refused, nobody):
        assert answer.document["error"]["request_id"] == answer.headers["x-request-id"]


def test_bad_requests_are_named(single: Node, admin: Admin) -> None:
    """Path, method, body and field, each with its own answer; nothing is made."""
    organization, key = draft(single.data_dir)
    before = len(documents(single.data_dir, "keys", "list"))
    missing = admin("POST", f"{organization}/keys", key | {"purpose": ""})
    assert (missing.status, missing.code) == (400, "invalid_request")
    assert missing.document["error"]["param"] == "key.purpose"
    assert admin("POST", f"{organization}/keys", key | {"nonsense": 1}).code == "invalid_request"
    assert admin("GET", "nothing").code == "not_found"
    assert admin("GET", "organizations/org_00000000000000000000000000/keys").status == 404
    wrong = admin("DELETE", "organizations")
    assert (wrong.status, wrong.headers["allow"]) == (405, "GET, POST")
    text = admin("POST", f"{organization}/keys", key, Content_Type="text/plain")
    assert text.code == "unsupported_media_type"
    assert len(documents(single.data_dir, "keys", "list")) == before


def test_its_openapi_document_is_served(admin: Admin) -> None:
    """To anybody who reaches the listener: it holds no data."""
    document = Admin(admin.url, "")("GET", "openapi.json").document
    assert document["openapi"].startswith("3.1")
    assert "/admin/v1/organizations/{organization}/keys" in document["paths"]


def test_the_public_listener_has_none_of_it(single: Node, admin: Admin) -> None:
    """Not even its document."""
    for path in ("organizations", "openapi.json"):
        assert Admin(single.base_url.removesuffix("/v1"), admin.token)("GET", path).status == 404
