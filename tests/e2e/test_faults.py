"""Every fault of an upstream, as clients see it: in one message and as a stream, over REST and over gRPC."""

from __future__ import annotations

import asyncio
import json

import psutil
import pytest
from tests.e2e.calls import Seen, rest, rpc
from tests.e2e.fault_table import FAULTS, SENTENCE, TOOL_FAULTS, Answer, Failure, Outcome
from tests.e2e.nodes import PROVIDER_KEY, Node
from tests.e2e.upstream import Upstream, until

from dev.simulator.faults import FAULTS as SIMULATOR_FAULTS
from tokendance.gateway.v1 import completion_pb2 as pb

HUGE = "fault:huge-body"
# 100 MiB come from each of four upstream calls; the caps of the configuration are 4 MiB an answer.
MEMORY_LIMIT_BYTES = 80 * 1024 * 1024


def test_every_fault_of_the_simulator_has_a_row() -> None:
    """A new fault fails here until somebody has said what clients see of it."""
    shown = {model.split(":")[1] for model in [*FAULTS, *TOOL_FAULTS] if model.startswith("fault:")}
    assert shown == set(SIMULATOR_FAULTS)


def test_every_choice_of_an_option_has_a_row() -> None:
    """Options that are a choice between forms are shown in each form but the default, which is shown without it."""
    for fault in SIMULATOR_FAULTS.values():
        for option in fault.options.split():
            name, _, choices = option.partition("=")
            for form in choices.split("|")[1:]:
                written = f"{name}={form}"
                if (fault.name, written) in NOT_SHOWN:
                    continue
                rows = [model for model in [*FAULTS, *TOOL_FAULTS] if model.startswith(f"fault:{fault.name}:")]
                assert any(written in model.split(":") for model in rows), f"fault:{fault.name}:{written}"


# The envelopes are read by one function, which meets all of them under `status`; malformed-sse is malformed-json.
NOT_SHOWN = {
    ("error-body", f"envelope={envelope}") for envelope in ("code-text", "detail-list", "message", "html", "empty")
}
NOT_SHOWN |= {("malformed-sse", f"form={form}") for form in ("text", "bad-utf8", "deep", "array", "null", "string")}
NOT_SHOWN |= {("wrong-type", f"as={form}") for form in ("json", "sse")}


async def see(node: Node, model: str) -> tuple[Seen, Seen, Seen, Seen]:
    """The four ways to call, at the same time."""
    return await asyncio.gather(
        rest(node, model, stream=False),
        rest(node, model, stream=True),
        rpc(node, model, stream=False),
        rpc(node, model, stream=True),
    )


@pytest.mark.parametrize("model", [model for model in FAULTS if model != HUGE])
async def test_what_clients_see(node: Node, upstream: Upstream, model: str) -> None:
    """Each fault is a typed error or a whole answer, never a clean end of half an answer, and tells no secret."""
    unary, stream = FAULTS[model]
    kept = upstream.stats()["open_connections"]
    seen = await see(node, model)
    check_rest(seen[0], unary, stream=False)
    check_rest(seen[1], stream, stream=True)
    check_rpc(seen[2], unary, stream=False)
    check_rpc(seen[3], stream, stream=True)
    for one in seen:
        check_discreet(one, upstream, model)
    until(lambda: upstream.busy() == 0)
    # At most one connection of each call is kept for the next one.
    assert upstream.stats()["open_connections"] <= kept + len(seen)


async def test_upstream_that_drops_all_kept_connections(node: Node) -> None:
    """When an upstream has closed every connection that was kept, callers do not notice."""
    for _ in range(3):
        seen = await asyncio.gather(*(rest(node, "fault:reset-on-reuse", stream=False) for _ in range(8)))
        assert [one.text for one in seen] == [SENTENCE] * 8


async def test_huge_answers_do_not_fill_the_memory(node: Node, upstream: Upstream) -> None:
    """An answer without end is cut at its cap on every path, and what it took is given back."""
    processes = [psutil.Process(process.popen.pid) for process in node.processes]
    before = sum(process.memory_info().rss for process in processes)
    unary, stream = FAULTS[HUGE]
    seen = await see(node, HUGE)
    assert seen[0].code == seen[1].code == seen[2].code == seen[3].code == "provider_error"
    check_rest(seen[0], unary, stream=False)
    check_rpc(seen[2], unary, stream=False)
    assert isinstance(stream, Failure)
    assert seen[1].status == 200
    assert seen[1].began
    assert not seen[1].done
    assert seen[3].began
    assert not seen[3].done
    grown = sum(process.memory_info().rss for process in processes) - before
    assert grown < MEMORY_LIMIT_BYTES
    until(lambda: upstream.busy() == 0)


def check_rest(seen: Seen, expected: Outcome, *, stream: bool) -> None:
    """What came over REST is the outcome, in OpenAI's form."""
    assert seen.request_id.startswith("req_")
    if isinstance(expected, Answer):
        assert (seen.status, seen.code) == (200, "")
        assert seen.done
        check_answer(seen, expected, finish=expected.finish)
        return
    if expected.text is None or not stream:
        assert (seen.status, seen.code) == (expected.http, expected.code)
        assert seen.headers["x-tokendance-error-code"] == expected.code
        check_retry(seen, expected)
    else:
        assert (seen.status, seen.code) == (200, expected.code)
        assert seen.text == expected.text
    assert not seen.done
    assert seen.error["type"] == expected.type
    assert seen.error["origin"] == "provider"
    assert seen.error["request_id"] == seen.request_id
    assert seen.error.keys() >= {"message", "param"}


def check_rpc(seen: Seen, expected: Outcome, *, stream: bool) -> None:
    """What came over gRPC is the outcome, with its details."""
    assert seen.request_id.startswith("req_")
    if isinstance(expected, Answer):
        assert (seen.status, seen.code) == ("OK", "")
        assert seen.done
        check_answer(seen, expected, finish=expected.finish)
        source = pb.USAGE_SOURCE_ESTIMATED if expected.estimated else pb.USAGE_SOURCE_PROVIDER
        assert seen.usage["source"] == source
        return
    assert (seen.status, seen.code) == (expected.grpc, expected.code)
    assert not seen.done
    if stream:
        assert seen.text == (expected.text or "")
    if seen.retry_after:
        # An upstream that asked for patience is not asked before: later callers are told what is left of it.
        assert 1 <= int(seen.retry_after) <= max(expected.retry_after)


def check_answer(seen: Seen, expected: Answer, *, finish: str) -> None:
    """The whole answer, and counts that can be believed."""
    assert seen.text == expected.text
    assert seen.reasoning == expected.reasoning
    assert seen.finish == finish
    assert seen.usage["prompt_tokens"] == expected.prompt_tokens
    assert seen.usage["completion_tokens"] == expected.completion_tokens


def check_retry(seen: Seen, expected: Failure) -> None:
    """Retry-After is whole seconds where a retry may help, and a failure that none can cure says so."""
    if expected.retry_after:
        assert 1 <= int(seen.retry_after) <= max(expected.retry_after)
    assert (seen.headers.get("x-should-retry") == "false") == (expected.http in (400, 413))


def check_discreet(seen: Seen, upstream: Upstream, model: str) -> None:
    """Nothing of what came back names the upstream, its words or its credential."""
    told = seen.raw.replace(model, "")
    secrets = [PROVIDER_KEY, "canary", "Authorization:", "169.254.169.254", "nginx", "OPENROUTER", f":{upstream.port}"]
    if seen.code:
        secrets += ["127.0.0.1", "Simulated", "simulator", "upstream"]
    assert [secret for secret in secrets if secret in told] == []


NAMES = ("weather", "forecast")
PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}}
TOOLS = [{"type": "function", "function": {"name": name, "parameters": PARAMETERS}} for name in NAMES]
RPC_TOOLS = [pb.Tool(kind=pb.TOOL_KIND_FUNCTION, name=name, parameters_json=json.dumps(PARAMETERS)) for name in NAMES]
ARGUMENTS = {"city": "example", "days": 1}


@pytest.mark.parametrize("model", TOOL_FAULTS)
async def test_tool_calls_come_out_whole(node: Node, model: str) -> None:
    """However an upstream cuts its tool calls up, clients get each with one id, one name and its arguments."""
    seen = await asyncio.gather(
        rest(node, model, stream=False, tools=TOOLS),
        rest(node, model, stream=True, tools=TOOLS),
        rpc(node, model, stream=False, tools=RPC_TOOLS),
        rpc(node, model, stream=True, tools=RPC_TOOLS),
    )
    for one in seen:
        assert one.code == ""
        assert one.done
        assert one.finish == "tool_calls"
        assert [call[1] for call in one.tool_calls] == list(NAMES if "parallel" in model else NAMES[:1])
        ids = [call[0] for call in one.tool_calls]
        assert all(ids)
        assert len(set(ids)) == len(ids)
        for _, _, arguments in one.tool_calls:
            assert json.loads(arguments) == ({} if model.endswith("null-arguments") else ARGUMENTS)
