"""gRPC from a shell: grpcurl by reflection and by the shipped descriptors, and what other languages make of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.nodes import ROOT, Node
from tests.e2e.programs import run_shell
from tests.e2e.test_examples import readme

SERVICE = "tokendance.gateway.v1.CompletionsService"
CALL = 'grpcurl -plaintext {options} -H "authorization: Bearer $TOKENDANCE_API_KEY" -d "$REQUEST" {target}'
REQUEST = (
    '{"completion": {"model": "demo-echo", "messages": [{"role": "ROLE_USER", "parts": [{"text": {"text": "Hi"}}]}]}}'
)
SERVICES = {"Audit", "Completions", "Facade", "Keys", "Models", "Nodes", "Organizations", "Quota", "Status"}


def call(node: Node, folder: Path, rpc: str, options: str = "", request: str = REQUEST) -> list[Any]:
    """The answers of one RPC, as JSON."""
    line = CALL.format(options=options, target=f"{node.grpc} {SERVICE}/{rpc}")
    told = run_shell(line, node.environment() | {"REQUEST": request}, folder)
    documents, decoder, at = [], json.JSONDecoder(), 0
    while at < len(told.rstrip()):
        document, at = decoder.raw_decode(told, at + len(told[at:]) - len(told[at:].lstrip()))
        documents.append(document)
    return documents


def text_of(completion: Any) -> str:
    """The text of the first choice."""
    return "".join(part["text"]["text"] for part in completion["choices"][0]["message"]["parts"])


def test_line_of_the_readme(node: Node, tmp_path: Path) -> None:
    """The README's grpcurl line works as it is printed."""
    answer = json.loads(run_shell(readme("grpcurl", node), node.environment(), tmp_path))
    assert "Hello" in text_of(answer["completion"])


@pytest.mark.parametrize("options", ["", "-protoset proto/api.binpb"])
def test_create_completion(node: Node, tmp_path: Path, options: str) -> None:
    """A call works by reflection, and by the descriptors that ship with the repository."""
    (answer,) = call(node, tmp_path, "CreateCompletion", options)
    assert answer["completion"]["model"] == "demo-echo"
    assert "Hi" in text_of(answer["completion"])
    assert int(answer["completion"]["usage"]["outputTokens"]) > 0


def test_stream_completion(node: Node, tmp_path: Path) -> None:
    """A stream starts once, carries the text in pieces, and finishes once, last."""
    batches = call(node, tmp_path, "StreamCompletion")
    events = [event for batch in batches for event in batch["events"]]
    kinds = [next(iter(event)) for event in events]
    assert kinds[0] == "started"
    assert kinds[-1] == "finished"
    assert kinds.count("started") == kinds.count("finished") == 1
    text = "".join(event["text"].get("text", "") for event in events if "text" in event)
    (answer,) = call(node, tmp_path, "CreateCompletion")
    assert text == text_of(answer["completion"])


def test_explain_completion(node: Node, tmp_path: Path) -> None:
    """A call can be explained without being made."""
    (answer,) = call(node, tmp_path, "ExplainCompletion")
    assert answer["admitted"] is True
    assert answer["routes"][0]["chosen"] is True


def test_reflection_lists_and_describes(node: Node, tmp_path: Path) -> None:
    """Reflection shows every service, and the RPCs of one."""
    listed = run_shell(f"grpcurl -plaintext {node.grpc} list", node.environment(), tmp_path).split()
    assert {f"tokendance.gateway.v1.{name}Service" for name in SERVICES} <= set(listed)
    assert "grpc.health.v1.Health" in listed
    methods = run_shell(f"grpcurl -plaintext {node.grpc} list {SERVICE}", node.environment(), tmp_path)
    assert f"{SERVICE}.StreamCompletion" in methods
    described = run_shell(f"grpcurl -plaintext {node.grpc} describe {SERVICE}", node.environment(), tmp_path)
    assert "StreamCompletion" in described


def test_health(node: Node, tmp_path: Path) -> None:
    """The standard health service answers without a key."""
    line = f"grpcurl -plaintext {node.grpc} grpc.health.v1.Health/Check"
    assert json.loads(run_shell(line, node.environment(), tmp_path)) == {"status": "SERVING"}


def test_descriptors_can_be_built_from(tmp_path: Path) -> None:
    """Buf reads the shipped descriptors: what they hold is whole, and a message can be written by them alone."""
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "REQUEST": REQUEST}
    files = run_shell("buf build proto/api.binpb -o -#format=json", environment, tmp_path)
    names = [file["name"] for file in json.loads(files)["file"]]
    ours = {str(path.relative_to(ROOT / "proto")) for path in (ROOT / "proto").rglob("*.proto")}
    assert ours <= set(names)
    kind = "tokendance.gateway.v1.CreateCompletionRequest"
    line = f'echo "$REQUEST" | buf convert proto/api.binpb --type {kind} --from -#format=json --to -#format=json'
    assert json.loads(run_shell(line, environment, tmp_path)) == json.loads(REQUEST)
