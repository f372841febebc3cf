"""What was used, on a running node: found by the request id that the caller saw, also after the node was killed."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import urllib.error
import urllib.request
from pathlib import Path

import grpc
import pytest
from tests.e2e.nodes import Node, running
from tests.e2e.operator_cli import create_key
from tests.e2e.upstream import Upstream, until

from tokendance.gateway.v1 import errors_pb2, usage_pb2
from tokendance.gateway.v1 import quota_service_pb2 as pb
from tokendance.gateway.v1.quota_service_pb2_grpc import QuotaServiceStub


def chat(node: Node, secret: str, model: str = "sim") -> str:
    """Ask something; return the request id that the caller saw."""
    body = json.dumps({"model": model, "messages": [{"role": "user", "content": "Hi"}]}).encode()
    headers = {"authorization": f"Bearer {secret}", "content-type": "application/json"}
    asked = urllib.request.Request(f"{node.base_url}/chat/completions", body, headers)
    with urllib.request.urlopen(asked, timeout=10) as answer:
        return str(answer.headers["x-request-id"])


def operators_record(node: Node, request_id: str) -> usage_pb2.RequestRecord:
    """Return what the operator sees of a request."""
    with grpc.insecure_channel(f"unix:{node.data_dir / 'admin.sock'}") as channel:
        return QuotaServiceStub(channel).GetRequest(pb.GetRequestRequest(name=request_id), timeout=10).request


def record(node: Node, secret: str, request_id: str) -> usage_pb2.RequestRecord:
    """Return what the key's holder sees of a request."""
    with grpc.insecure_channel(node.grpc) as channel:
        answer = QuotaServiceStub(channel).GetRequest(
            pb.GetRequestRequest(name=request_id), metadata=(("authorization", f"Bearer {secret}"),), timeout=10
        )
    return answer.request


def test_request_is_found_by_the_id_that_the_caller_saw(upstream: Upstream, tmp_path: Path) -> None:
    """By its own key only; what is the provider's stays out of it; a killed node keeps it."""
    with running("one", tmp_path, upstream.base_url, ["sim"]) as node:
        key, secret = create_key(node.data_dir, "Asks")
        _, other = create_key(node.data_dir, "Has nothing to do with it")
        request_id = chat(node, secret)
        seen = record(node, secret, request_id)
        assert (seen.record.request_id, seen.record.key) == (request_id, key["name"])
        assert (seen.record.outcome, seen.record.http_status) == (usage_pb2.REQUEST_OUTCOME_SUCCEEDED, 200)
        assert seen.record.usage.input_tokens > 0
        assert not seen.record.HasField("cost_micros")
        (attempt,) = seen.attempts
        assert attempt.provider_label
        assert (attempt.provider, attempt.upstream_model, seen.node, seen.address) == ("", "", "", "")
        assert record(node, secret, seen.record.name).record == seen.record
        with pytest.raises(grpc.RpcError) as hidden:
            record(node, other, request_id)
        assert hidden.value.code() is grpc.StatusCode.NOT_FOUND
        last = chat(node, secret)
        os.kill(int((node.data_dir / "lock").read_text(encoding="ascii")), signal.SIGKILL)
    with running("one", tmp_path, upstream.base_url, ["sim"]) as node:
        assert record(node, secret, last).record.request_id == last
    with sqlite3.connect(node.data_dir / "gateway.db") as database:
        assert database.execute("SELECT count(*) FROM usage_records").fetchone() == (2,)
        assert database.execute("SELECT sum(requests) FROM usage_days").fetchone() == (2,)


def test_a_record_tells_how_the_call_went(upstream: Upstream, tmp_path: Path) -> None:
    """Where it was called, how long each part took, and to the operator what the upstream said of it."""
    with running("one", tmp_path, upstream.base_url, ["sim"]) as node:
        _, secret = create_key(node.data_dir, "Asks")
        request_id = chat(node, secret)
        seen = operators_record(node, request_id)
        assert f"http://{seen.host}/v1" == node.base_url
        assert seen.route == "POST /v1/chat/completions"
        (attempt,) = seen.attempts
        assert (attempt.upstream_status, attempt.upstream_request_id) == (200, "req_upstream_canary")
        assert attempt.HasField("connect_latency")
        assert attempt.first_byte_latency.ToMicroseconds() > 0
        assert attempt.total_latency.ToMicroseconds() > 0
        whole = seen.record.total_latency.ToMicroseconds()
        assert 0 < seen.record.added_latency.ToMicroseconds() < whole
        assert 0 < seen.record.first_byte_latency.ToMicroseconds() <= whole
        held = record(node, secret, request_id)
        assert held.attempts[0].upstream_request_id == ""
        assert not operators_record(node, chat(node, secret)).attempts[0].HasField("connect_latency")


def refused(node: Node, secret: str) -> tuple[str, urllib.error.HTTPError]:
    """Ask with a credential that is no good; return the code of the error and the answer."""
    with pytest.raises(urllib.error.HTTPError) as seen:
        chat(node, secret)
    with seen.value as answer:
        return str(json.load(answer)["error"]["code"]), answer


def test_who_was_turned_away_is_found_by_the_operator_only(upstream: Upstream, tmp_path: Path) -> None:
    """And who tries too often from outside waits; the listener of the trust zone lets nobody wait."""
    settings = {"SERVER__LIMITS__FAILED_SIGN_INS_PER_MINUTE": "3"}
    with running("one", tmp_path, upstream.base_url, ["sim"], settings=settings) as node:
        _, secret = create_key(node.data_dir, "Asks")
        code, answer = refused(node, "tdk_mistyped")
        assert (answer.code, code) == (401, "invalid_api_key")
        request_id = str(answer.headers["x-request-id"])
        seen = operators_record(node, request_id)
        assert (seen.record.request_id, seen.record.http_status, seen.record.name) == (request_id, 401, "")
        assert seen.credential_kind == usage_pb2.CREDENTIAL_KIND_API_KEY
        assert (seen.address, seen.route) == ("127.0.0.1", "POST /v1/chat/completions")
        codes = [refused(node, "tdk_mistyped")[0] for _ in range(3)]
        assert codes == ["invalid_api_key", "invalid_api_key", "rate_limit_exceeded"]
        _, limited = refused(node, "tdk_mistyped")
        assert (limited.code, 0 < int(limited.headers["retry-after"]) <= 20) == (429, True)
        with pytest.raises(grpc.RpcError) as hidden:
            record(node, secret, request_id)
        assert hidden.value.code() is grpc.StatusCode.NOT_FOUND


def post(node: Node, body: bytes, **headers: str) -> str:
    """Send what the facade refuses by itself; return its request id."""
    request = urllib.request.Request(
        f"{node.base_url}/chat/completions", body, {"content-type": "application/json", **headers}
    )
    with pytest.raises(urllib.error.HTTPError) as seen:
        urllib.request.urlopen(request, timeout=10)
    with seen.value as answer:
        assert answer.code in (400, 401)
        return str(answer.headers["x-request-id"])


@pytest.mark.parametrize("topology", ["one", "split"])
def test_what_the_facade_refuses_by_itself_is_found_too(upstream: Upstream, tmp_path: Path, topology: str) -> None:
    """Of a known key by its holder, as any other request of it; of nobody by the operator alone."""
    with running(topology, tmp_path, upstream.base_url, ["sim"]) as node:
        _, secret = create_key(node.data_dir, "Asks")
        known = post(node, b"{not json", authorization=f"Bearer {secret}")
        nobody = post(node, b"{not json")
        stranger = post(node, b"{not json", authorization="Bearer tdk_mistyped")

        def is_there() -> bool:
            try:
                return bool(record(node, secret, known).record.name)
            except grpc.RpcError:
                return False

        until(is_there, 5)
        seen = record(node, secret, known)
        assert (seen.record.outcome, seen.record.http_status) == (usage_pb2.REQUEST_OUTCOME_REFUSED, 400)
        assert seen.record.reason == errors_pb2.ERROR_REASON_INVALID_JSON
        assert (seen.record.usage.input_tokens, seen.route) == (0, "POST /v1/chat/completions")
        for request_id, kind in (
            (nobody, usage_pb2.CREDENTIAL_KIND_UNSPECIFIED),
            (stranger, usage_pb2.CREDENTIAL_KIND_API_KEY),
        ):
            found = operators_record(node, request_id)
            assert (found.record.name, found.credential_kind) == ("", kind)
            assert found.address == "127.0.0.1"
            with pytest.raises(grpc.RpcError):
                record(node, secret, request_id)
