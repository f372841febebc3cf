"""Whatever anybody outside can read names no part of the gateway, no host, no path and no secret: all of it is read."""

from __future__ import annotations

import json
import re
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import grpc
import pytest
from tests.canaries import find
from tests.e2e.fault_table import FAULTS
from tests.e2e.nodes import NO_SUCH_NAME, PROVIDER_KEY, ROOT, Node, free_ports, running
from tests.e2e.operator_cli import tokendance
from tests.e2e.upstream import Upstream

from tokendance.gateway.v1 import completion_pb2 as pb
from tokendance.gateway.v1 import completions_service_pb2, models_service_pb2, quota_service_pb2, status_service_pb2
from tokendance.gateway.v1.completions_service_pb2_grpc import CompletionsServiceStub
from tokendance.gateway.v1.models_service_pb2_grpc import ModelsServiceStub
from tokendance.gateway.v1.quota_service_pb2_grpc import QuotaServiceStub
from tokendance.gateway.v1.status_service_pb2_grpc import StatusServiceStub
from tokendance_facade.config import SiteConfig

PROVIDER = "provider-name-canary"
UPSTREAM_MODEL = "sim"
LABEL = "Public label"
SLOW = ("stall", "drip", "first", "slow", "keepalive", "huge")
QUICK_FAULTS = sorted(model for model in FAULTS if model.startswith("fault:") and not any(one in model for one in SLOW))
BODIES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "Hi"}]},
    "/v1/responses": {"input": "Hi"},
    "/v1/messages": {"max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}]},
    "/v1/completions": {"prompt": "Hi"},
    "/v1/embeddings": {"input": "Hi"},
}
READ = ("/v1/models", "/v1/models/labelled", "/v1/models/none", "/v1/quota", "/v1/usage", "/v1/status?history_days=9")


class Links(HTMLParser):
    """What a page leads to on its own host."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in {"href", "src", "action"} and value and value.startswith("/"):
                self.found.add(value.partition("#")[0])


class Outside:
    """What a caller outside the trust zone can reach: the public REST listener, and the public one of gRPC."""

    def __init__(self, node: Node, grpc_public: str) -> None:
        self.node = node
        self.grpc_public = grpc_public
        self.seen: dict[str, bytes] = {}
        self.request_ids: list[str] = []

    def http(self, path: str, body: Any = None, *, key: bool = True, accept: str = "*/*") -> tuple[int, str]:
        """Ask, and keep head and body of the answer."""
        headers = {"Content-Type": "application/json", "Accept": accept}
        if key:
            headers["Authorization"] = f"Bearer {self.node.api_key}"
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.node.origin + path, data=data, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                status, head, text = answer.status, answer.headers, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                status, head, text = error.code, error.headers, error.read()
        name = f"{'POST' if data else 'GET'} {path} {json.dumps(body) if body else ''} {'key' if key else ''} {accept}"
        self.seen[name] = str(head).encode() + text
        self.request_ids.append(head["x-request-id"])
        return status, text.decode("utf-8", "replace")

    def crawl(self) -> set[str]:
        """Read every page and file that a link leads to, as a browser and as a program."""
        read: set[str] = set()
        wanted = {"/", "/robots.txt", "/favicon.ico", "/llms.txt", "/nothing", "/assets/nothing"}
        while wanted:
            path = wanted.pop()
            read.add(path)
            for accept in ("*/*", "text/html"):
                _, text = self.http(path, key=False, accept=accept)
                wanted |= (Links(text).found if "<html" in text else set()) - read
        return read

    def rpc(self, stub: Any, method: str, request: Any, credential: str) -> None:
        """Call, and keep answer, metadata and error."""
        metadata = (("authorization", f"Bearer {credential}"),) if credential else ()
        for address in (self.node.grpc, self.grpc_public):
            with grpc.insecure_channel(address) as channel:
                call = getattr(stub(channel), method)
                name = f"{method} {str(request)[:60]} {bool(credential)} {address == self.grpc_public}"
                try:
                    response, sent = call.with_call(request, metadata=metadata, timeout=20)
                    told = [response.SerializeToString(), str(sent.initial_metadata()), str(sent.trailing_metadata())]
                except grpc.RpcError as error:
                    failure: Any = error
                    told = [str(failure.details()), str(failure.initial_metadata()), str(failure.trailing_metadata())]
                self.seen[name] = b"\n".join(one if isinstance(one, bytes) else one.encode() for one in told)


@pytest.fixture(scope="module")
def outside(upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Outside]:
    """A node with a provider whose name nobody outside may learn."""
    folder = tmp_path_factory.mktemp("public-words")
    (port,) = free_ports(1)
    settings = {"SERVER__GRPC_PUBLIC": f"127.0.0.1:{port}", "SERVER__LOG_LEVEL": "debug"}
    with running("one", folder, upstream.base_url, ["sim", *QUICK_FAULTS], settings=settings) as node:
        catalogue = folder / "catalogue.yaml"
        route = {"provider": PROVIDER, "upstream_model": UPSTREAM_MODEL}
        catalogue.write_text(
            json.dumps(
                {
                    "providers": [
                        {
                            "name": PROVIDER,
                            "kind": "openai",
                            "base_url": upstream.base_url,
                            "credential": "env:TOKENDANCE_PROVIDER_SIM",
                            "public_label": LABEL,
                        }
                    ],
                    "models": [{"name": "labelled", "visibility": "public", "routes": [route]}],
                }
            )
        )
        done = tokendance("--data-dir", str(node.data_dir), "apply", "-f", str(catalogue), "--yes")
        assert done.returncode == 0, done.stderr
        yield Outside(node, f"127.0.0.1:{port}")


def secrets(outside: Outside, upstream: Upstream) -> Mapping[str, str]:
    """What stands behind the gateway, or belongs to its operator."""
    node = outside.node
    return {
        "the provider's key": PROVIDER_KEY,
        "the provider's host": NO_SUCH_NAME,
        "the provider's address": upstream.base_url.removeprefix("http://").removesuffix("/v1"),
        "the provider's own words": "upstream-error-canary",
        "the provider's name": PROVIDER,
        "the internal listener": node.internal[0].removeprefix("http://"),
        "the data directory": str(node.data_dir),
        "the database": "gateway.db",
        "the operator's socket": "admin.sock",
        "the source tree": str(ROOT),
        "the interpreter": "site-packages",
        "a stack": "Traceback (most recent call last)",
        "the caller's key": node.api_key,
    }


def private_names(seen: Mapping[str, bytes], names: tuple[str, ...]) -> list[str]:
    """Where a name that must not be public stands, as a word and whatever its case."""
    words = re.compile(rf"(?<!\w)({'|'.join(map(re.escape, names))})(?!\w)".encode(), re.IGNORECASE)
    return [f"{match[1].decode()} in {name}" for name, text in seen.items() if (match := words.search(text))]


def test_nothing_that_the_outside_reads_names_what_stands_behind(outside: Outside, upstream: Upstream) -> None:
    """Pages, files, headers, answers, errors of every model and dialect, streams, gRPC answers, errors and trailers."""
    read = outside.crawl()
    assert {"/", "/keys", "/limits", "/models", "/errors", "/status", "/reference", "/openapi.json"} <= read
    assert any(path.startswith("/assets/site-") for path in read)
    for key in (True, False):
        for path in READ:
            outside.http(path, key=key)
    for path, body in BODIES.items():
        for model in ("labelled", "none", "refused", "nameless", *QUICK_FAULTS[:: 1 if "chat" in path else 7]):
            for stream in (False, True):
                outside.http(path, {"model": model, **body, "stream": stream})
        outside.http(path, {"model": "labelled"}, key=False)
    for request_id in outside.request_ids[-200:]:
        outside.http(f"/v1/requests/{request_id}")

    completion = pb.CompletionRequest(
        messages=[pb.Message(role=pb.ROLE_USER, parts=[pb.Part(text=pb.Text(text="Hi"))])]
    )
    for credential in (outside.node.api_key, ""):
        for model in ("labelled", "none", "refused", "nameless", *QUICK_FAULTS[::4]):
            asked = pb.CompletionRequest(model=model, messages=completion.messages)
            create = completions_service_pb2.CreateCompletionRequest(completion=asked)
            outside.rpc(CompletionsServiceStub, "CreateCompletion", create, credential)
        for model in ("labelled", "none", "nameless"):
            asked = pb.CompletionRequest(model=model, messages=completion.messages)
            explain = completions_service_pb2.ExplainCompletionRequest(completion=asked)
            outside.rpc(CompletionsServiceStub, "ExplainCompletion", explain, credential)
        outside.rpc(ModelsServiceStub, "ListModels", models_service_pb2.ListModelsRequest(), credential)
        outside.rpc(ModelsServiceStub, "GetModel", models_service_pb2.GetModelRequest(name="labelled"), credential)
        outside.rpc(StatusServiceStub, "GetStatus", status_service_pb2.GetStatusRequest(history_days=9), credential)
        outside.rpc(StatusServiceStub, "ListIncidents", status_service_pb2.ListIncidentsRequest(), credential)
        outside.rpc(QuotaServiceStub, "GetQuota", quota_service_pb2.GetQuotaRequest(include_inherited=True), credential)
        outside.rpc(QuotaServiceStub, "ListQuotas", quota_service_pb2.ListQuotasRequest(), credential)
        for request_id in outside.request_ids[-60:-50]:
            outside.rpc(
                QuotaServiceStub, "GetRequest", quota_service_pb2.GetRequestRequest(name=request_id), credential
            )

    assert len(outside.seen) > 250
    assert find(secrets(outside, upstream), outside.seen) == []
    assert private_names(outside.seen, SiteConfig().private_names) == []
    everything = b"".join(outside.seen.values())
    assert LABEL.encode() in everything, "who served a call is told by its public label"


def test_neither_protos_nor_their_documentation_name_what_stands_behind() -> None:
    """Comments of protos are public: callers generate their documentation from them."""
    public: dict[str, bytes] = {"api.binpb": (ROOT / "proto" / "api.binpb").read_bytes()}
    folders = (ROOT / "proto", ROOT / "facade" / "tokendance_facade" / "pages")
    for path in (file for folder in folders for file in folder.rglob("*") if file.suffix in PUBLIC_FILES):
        public[str(path.relative_to(ROOT))] = path.read_bytes()
    assert len(public) > 40
    assert private_names(public, SiteConfig().private_names) == []


PUBLIC_FILES = {".proto", ".html", ".json", ".css", ".js", ".svg", ".sh", ".ps1", ".mjs"}


@pytest.mark.parametrize("name", ["NewAPI", "MetAPI", "Codex2API", "Portal", "mihomo", "proxy-gateway"])
def test_the_names_of_earlier_parts_are_private_by_default(name: str, tmp_path: Path) -> None:
    """An operator may set others; the search finds them in any case, and not within other words."""
    assert name in SiteConfig().private_names
    assert private_names({"page": f"by {name.upper()}.".encode(), "other": f"{name}s x{name}".encode()}, (name,)) == [
        f"{name.upper()} in page"
    ]
