"""Metrics and logs of running nodes: documented whole, and bounded whatever callers send."""

from __future__ import annotations

import ast
import asyncio
import json
import re
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from typing import Any

import grpc
import grpc.aio
import pytest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families
from tests.e2e.nodes import ROOT, Node
from tests.e2e.operator_cli import documents

from tokendance.gateway.v1.caller_pb2 import CallerAssertion
from tokendance.gateway.v1.completion_pb2 import ROLE_USER, CompletionRequest, Message
from tokendance.gateway.v1.completions_service_pb2 import CreateCompletionRequest
from tokendance.gateway.v1.completions_service_pb2_grpc import CompletionsServiceStub
from tokendance.rpc import CALLER_KEY

PAGE = ROOT / "docs" / "operations" / "metrics.md"
ATTACKS = 5000
PIPELINED = 50
GRPC_ATTACKS = 50
_LEVELS = ("debug", "info", "warning", "error", "exception")
_ALWAYS = {"event", "level", "timestamp"}


def rows(heading: str) -> list[list[str]]:
    """The cells of the table whose first column has this heading, without marks."""
    lines = iter(PAGE.read_text(encoding="utf-8").splitlines())
    for line in lines:
        if line.startswith(f"| {heading} |"):
            break
    next(lines)
    found = []
    for line in lines:
        if not line.startswith("|"):
            break
        found.append([cell.strip() for cell in line.strip("|").split(" | ")])
    return found


def code_words(cell: str) -> set[str]:
    """What stands between backticks."""
    return set(re.findall(r"`([^`]+)`", cell))


def families(node: Node) -> dict[str, Metric]:
    """Every family that the processes of a node export, by the name of its main series."""
    found = {}
    for internal in node.internal:
        with urllib.request.urlopen(f"{internal}/metrics", timeout=10) as response:
            for one in text_string_to_metric_families(response.read().decode()):
                found[f"{one.name}_total" if one.type == "counter" else one.name] = one
    return found


def series(node: Node) -> set[tuple[str, str, str]]:
    """Every series that the processes of a node export."""
    found = set()
    for internal in node.internal:
        with urllib.request.urlopen(f"{internal}/metrics", timeout=10) as response:
            for one in text_string_to_metric_families(response.read().decode()):
                found |= {(internal, sample.name, str(sorted(sample.labels.items()))) for sample in one.samples}
    return found


def call(node: Node, path: str, body: object = None, key: str | None = None) -> int:
    """One request; returns its status."""
    request = urllib.request.Request(
        node.origin + path,
        None if body is None else json.dumps(body).encode(),
        {"Authorization": f"Bearer {key or node.api_key}", "Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=20) as response:
            response.read()
            return int(response.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def chat(model: str, **fields: object) -> dict[str, object]:
    """A small chat request."""
    return {"model": model, "messages": [{"role": "user", "content": "prompt-canary"}], **fields}


def traffic(node: Node) -> None:
    """One call of each sort, so that every metric has a series and every usual line is written."""
    assert call(node, "/v1/chat/completions", chat("demo-echo")) == 200
    assert call(node, "/v1/chat/completions", chat("demo-echo", stream=True)) == 200
    assert call(node, "/v1/models") == 200
    assert call(node, "/v1/chat/completions", chat("not-there")) == 404
    assert call(node, "/v1/models", key="tdk_wrong") == 401
    assert call(node, "/v1/nowhere") == 404
    assert call(node, "/v1/chat/completions", {"model": 5}) == 400


def test_every_metric_is_documented_and_every_documented_one_is_exported(node: Node) -> None:
    """Name, type and labels are those of the page; no series tells when another one was made."""
    key = documents(node.data_dir, "keys", "list")[0]
    documents(
        node.data_dir,
        *("quota", "set", key["name"], "--metric", "requests", "--window", "day", "--limit", "1", "--soft"),
    )
    traffic(node)
    # What a call spent is looked at by the next one.
    traffic(node)
    documented = {cells[0].strip("`"): (cells[1], code_words(cells[2])) for cells in rows("metric")}
    exported = {}
    for name, family in families(node).items():
        labels = {label for sample in family.samples for label in sample.labels} - {"le"}
        exported[name] = (family.type, labels)
        assert not any(sample.name.endswith("_created") for sample in family.samples), name
    assert {name: told for name, told in exported.items() if documented.get(name) != told} == {}
    assert set(documented) <= set(exported)


def test_values_of_labels_are_documented(node: Node) -> None:
    """Surfaces are those of the page."""
    traffic(node)
    documented = {cells[0].strip("`"): code_words(cells[1]) for cells in rows("label")}
    seen = {sample.labels.get("surface") for one in families(node).values() for sample in one.samples} - {None}
    assert seen <= documented["surface"]
    assert {"chat", "models", "gateway"} <= seen


def test_every_line_is_documented(node: Node) -> None:
    """Whatever the node has written so far has an event of the page, with no other fields than it names."""
    traffic(node)
    documented = {cells[0].strip("`"): (cells[1], code_words(cells[2])) for cells in rows("event")}
    seen = set()
    for process in node.processes:
        for line in process.log.read_text().splitlines():
            if not line.startswith("{"):
                continue
            told = json.loads(line)
            if "logger" in told:
                assert set(told) <= {"event", "level", "logger", "exception"}
                continue
            level, fields = documented[told["event"]]
            assert told["level"] == level, told
            assert set(told) - _ALWAYS <= fields, told
            seen.add(told["event"])
    assert {"request", "refused"} <= seen


def events() -> Iterator[tuple[str, str, set[str]]]:
    """Level, event and fields of each call of a logger in the sources."""
    for folder in ("server", "facade"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            for call_ in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if not isinstance(call_, ast.Call) or not isinstance(call_.func, ast.Attribute):
                    continue
                if call_.func.attr not in _LEVELS or "log" not in ast.unparse(call_.func.value):
                    continue
                event = call_.args[0]
                assert isinstance(event, ast.Constant), f"{path}:{call_.lineno}: an event is a word, not a sentence"
                fields = {one.arg for one in call_.keywords if one.arg}
                level = "error" if call_.func.attr == "exception" else call_.func.attr
                if call_.func.attr == "exception" or "exc_info" in fields:
                    fields = fields - {"exc_info"} | {"exception"}
                yield level, str(event.value), fields


def test_every_event_in_the_sources_is_documented_and_no_other() -> None:
    """Also those that a healthy node never writes."""
    documented = {cells[0].strip("`"): (cells[1], code_words(cells[2])) for cells in rows("event")}
    written: dict[str, tuple[str, set[str]]] = {}
    for level, event, fields in events():
        before = written.get(event, (level, set()))
        assert before[0] == level, event
        written[event] = (level, before[1] | fields)
    assert {event: told for event, told in written.items() if documented.get(event) != told} == {}
    assert set(documented) <= set(written)


async def _flood(node: Node, requests: Sequence[bytes], *, together: int) -> None:
    """Send requests, `together` of them down one connection, and read until it ends."""
    host, _, port = node.origin.removeprefix("http://").partition(":")

    async def one(batch: Sequence[bytes]) -> None:
        reader, writer = await asyncio.open_connection(host, int(port))
        try:
            writer.write(b"".join(batch))
            while await reader.read(65536):
                pass
        except ConnectionResetError:
            return
        finally:
            writer.close()

    batches = [requests[start : start + together] for start in range(0, len(requests), together)]
    for start in range(0, len(batches), 8):
        await asyncio.gather(*map(one, batches[start : start + 8]))


def _request(node: Node, number: int, method: str, path: str, model: str | None, *, last: bool) -> bytes:
    body = b"" if model is None else json.dumps(chat(model)).encode()
    head = (
        f"{method} {path} HTTP/1.1\r\nHost: made-up-{number}\r\nUser-Agent: made-up-{number}/1\r\n"
        f"Authorization: Bearer {node.api_key}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    )
    return f"{head}{'Connection: close' if last else 'X-Made-Up: 1'}\r\n\r\n".encode() + body


@pytest.mark.timeout(180)
async def test_callers_cannot_make_series(node: Node) -> None:
    """Thousands of made-up models, paths, methods, hosts and user agents leave the series that one of each makes."""

    def attack(count: int) -> Iterator[tuple[list[bytes], int]]:
        last = [number % PIPELINED == PIPELINED - 1 or number == count - 1 for number in range(count)]
        yield (
            [_request(node, n, "POST", "/v1/chat/completions", f"made-up-{n}", last=last[n]) for n in range(count)],
            PIPELINED,
        )
        yield [_request(node, n, "GET", f"/v1/made-up-{n}", None, last=last[n]) for n in range(count)], PIPELINED
        # A method that nobody knows ends its connection.
        yield [_request(node, n, f"MADE{n}", "/v1/models", None, last=True) for n in range(count)], 1

    traffic(node)
    for requests, together in attack(1):
        await _flood(node, requests, together=together)
    before = await asyncio.to_thread(series, node)
    for requests, together in attack(ATTACKS):
        await _flood(node, requests, together=together)
    after = await asyncio.to_thread(series, node)
    assert after == before
    assert not any("made-up" in labels for _, _, labels in after)
    counted = {
        (sample.labels["surface"], sample.labels["code"]): sample.value
        for name, one in (await asyncio.to_thread(families, node)).items()
        for sample in one.samples
        if name == "tokendance_facade_refusals_total"
    }
    assert counted["gateway", "not_found"] >= ATTACKS
    assert counted["gateway", "invalid_request"] >= ATTACKS


async def test_callers_of_grpc_cannot_make_series(node: Node) -> None:
    """Nor do made-up RPCs, models, ids and look-alike assertions of surfaces, kinds of clients and routes."""

    async def attack(channel: Any, start: int) -> None:
        stub: Any = CompletionsServiceStub(channel)
        for number in range(start, start + GRPC_ATTACKS):
            made = f"made-up-{number}"
            asserted = CallerAssertion(surface=number, client_kind=made, http_route=made)  # type: ignore[arg-type]
            metadata = (
                ("authorization", f"Bearer {node.api_key}"),
                ("x-request-id", made),
                ("user-agent", made),
                (CALLER_KEY, asserted.SerializeToString()),
            )
            wanted = CompletionRequest(model=made, messages=[Message(role=ROLE_USER)])
            calls = [
                stub.CreateCompletion(CreateCompletionRequest(completion=wanted), metadata=metadata),
                channel.unary_unary(f"/tokendance.gateway.v1.CompletionsService/Made{number}")(b"", metadata=metadata),
                channel.unary_unary(f"/made.up.{number}/Made")(b"", metadata=metadata),
            ]
            for call_ in calls:
                with pytest.raises(grpc.RpcError):
                    await call_

    traffic(node)
    async with grpc.aio.insecure_channel(node.grpc) as channel:
        await attack(channel, 1)
        before = await asyncio.to_thread(series, node)
        await attack(channel, 1 + GRPC_ATTACKS)
    after = await asyncio.to_thread(series, node)
    assert after == before
    assert not any("made" in labels for _, _, labels in after)
