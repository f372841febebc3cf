"""Every fault of the simulator, as a client without any mercy or cleverness sees it on the wire."""

import asyncio
import email.utils
import json
import zlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import pytest

from dev.simulator import Simulator
from dev.simulator.faults import FAULTS, describe, read_model
from dev.simulator.plan import ModelNameError

CANARY = "Bearer sk-upstream-canary-0123456789"
SILENCE_S = 0.25
TOOL = {"type": "function", "function": {"name": "look_up", "parameters": {"properties": {"city": {}}}}}


@dataclass(frozen=True)
class Seen:
    """What came back: the raw bytes, and whether then came `eof`, `reset` or `silence`."""

    raw: bytes
    ending: str

    @property
    def head(self) -> str:
        return self.raw.partition(b"\r\n\r\n")[0].decode("latin-1").lower()

    @property
    def status(self) -> int:
        return int(self.raw.split()[1])

    def header(self, name: str) -> str | None:
        for line in self.head.split("\r\n")[1:]:
            key, _, value = line.partition(": ")
            if key == name:
                return value
        return None

    @property
    def body(self) -> bytes:
        """The body without its chunk frames, as much as came."""
        return b"".join(self.chunks) if self.header("transfer-encoding") else self._after_head

    @property
    def chunks(self) -> list[bytes]:
        rest, found = self._after_head, []
        while rest and not rest.startswith(b"0\r\n"):
            size, _, rest = rest.partition(b"\r\n")
            found.append(rest[: int(size, 16)])
            rest = rest[int(size, 16) + 2 :]
        return found

    @property
    def terminated(self) -> bool:
        """Whether the body ended as its head had promised."""
        if self.header("transfer-encoding"):
            return self._after_head.endswith(b"0\r\n\r\n")
        return len(self._after_head) == int(self.header("content-length") or 0)

    @property
    def _after_head(self) -> bytes:
        return self.raw.partition(b"\r\n\r\n")[2]

    @property
    def document(self) -> Any:
        return json.loads(self.body)

    @property
    def data(self) -> list[str]:
        """The payloads of the events, split at LF."""
        lines = self.body.decode().split("\n")
        return [line.removeprefix("data: ") for line in lines if line.startswith("data: ")]

    @property
    def events(self) -> list[Any]:
        return [json.loads(payload) for payload in self.data if payload != "[DONE]"]

    @property
    def usages(self) -> list[Any]:
        return [event["usage"] for event in self.events if event.get("usage")]

    @property
    def finishes(self) -> list[str]:
        choices = [choice for event in self.events for choice in event.get("choices") or ()]
        return [choice["finish_reason"] for choice in choices if choice["finish_reason"]]


@pytest.fixture
async def sim() -> AsyncIterator[Simulator]:
    """A simulator of its own for each test."""
    async with Simulator() as simulator:
        yield simulator


async def call(sim: Simulator, model: str, *, stream: bool, silence_s: float = SILENCE_S, **fields: Any) -> Seen:
    """One request on a connection of its own, read until something ends it."""
    document = {"model": model, "stream": stream, "messages": [{"role": "user", "content": "Hello"}]}
    if stream:
        document["stream_options"] = {"include_usage": True}
    body = json.dumps(document | fields).encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", sim.port)
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: {CANARY}\r\nconnection: close\r\n"
    writer.write(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
    parts, ending = [], "eof"
    try:
        while part := await asyncio.wait_for(reader.read(1 << 20), silence_s):
            parts.append(part)
    except ConnectionResetError:
        ending = "reset"
    except TimeoutError:
        ending = "silence"
    writer.close()
    return Seen(b"".join(parts), ending)


def whole(seen: Seen) -> bool:
    """A well-formed response with status 200."""
    return seen.ending == "eof" and seen.terminated and seen.status == 200


def whole_stream(seen: Seen) -> bool:
    """The same with a finish reason and [DONE]."""
    return whole(seen) and seen.data[-1] == "[DONE]" and seen.finishes == ["stop"]


def tool_deltas(seen: Seen) -> list[Any]:
    """The tool-call deltas in order."""
    deltas = [event["choices"][0]["delta"] for event in seen.events if event["choices"]]
    return [delta["tool_calls"][0] for delta in deltas if "tool_calls" in delta]


def error_of(seen: Seen, status: int) -> bool:
    """An error that repeats the credential."""
    return seen.status == status and CANARY in seen.document["error"]["message"]


Check = Callable[[Seen], bool]

# fault -> (for a document, for a stream)
EXPECTED: dict[str, tuple[Check, Check]] = {
    "status:code=401": (lambda s: error_of(s, 401), lambda s: error_of(s, 401)),
    "status:retry-after=2": (lambda s: s.header("retry-after") == "2", lambda s: error_of(s, 429)),
    "status:retry-after=-1": (lambda s: s.header("retry-after") == "-1",) * 2,
    "status:retry-after=1e9": (lambda s: s.header("retry-after") == "1e9",) * 2,
    "status:code=529": (lambda s: s.status == 529 and s.header("retry-after") is None,) * 2,
    "status:envelope=flat": (lambda s: s.document["code"] == 429,) * 2,
    "status:envelope=text": (lambda s: isinstance(s.document["error"], str),) * 2,
    "status:envelope=empty": (lambda s: s.body == b"" and s.status == 429,) * 2,
    "status:code=400:reason=context_length_exceeded": (
        lambda s: "maximum context length" in s.document["error"]["message"],
        lambda s: s.document["error"]["code"] == "context_length_exceeded",
    ),
    "fail-first": (lambda s: error_of(s, 503),) * 2,
    "flaky:every=1": (lambda s: error_of(s, 500),) * 2,
    "reset": (lambda s: s.ending == "reset" and s.raw == b"",) * 2,
    "reset-after:n=3": (
        lambda s: s.ending == "reset" and len(s.chunks) == 3,
        lambda s: s.ending == "reset" and len(s.events) == 3,
    ),
    "stall": (lambda s: s.ending == "silence" and s.raw == b"",) * 2,
    "stall-after:n=3": (
        lambda s: s.ending == "silence" and len(s.chunks) == 3,
        lambda s: s.ending == "silence" and len(s.events) == 3,
    ),
    "cut:n=3": (
        lambda s: s.ending == "eof" and len(s.chunks) == 3 and not s.terminated,
        lambda s: s.ending == "eof" and len(s.events) == 3 and not s.terminated,
    ),
    "cut-clean:n=3": (
        lambda s: whole(s) and len(s.chunks) == 3,
        lambda s: whole(s) and len(s.events) == 3 and not s.finishes and s.data[-1] != "[DONE]",
    ),
    "truncated": (lambda s: s.ending == "eof" and not s.terminated and s.body != b"",) * 2,
    "malformed-sse": (
        lambda s: whole(s) and s.body.count(b"{") > s.body.count(b"}"),
        lambda s: whole(s) and s.data[3].count("{") > s.data[3].count("}") and s.data[-1] == "[DONE]",
    ),
    "malformed-json:form=text": (
        lambda s: s.body == b"this is no JSON" and s.header("content-type") == "application/json",
        lambda s: s.data[3] == "this is no JSON",
    ),
    "malformed-json:form=bad-utf8": (lambda s: b"\xff\xfe" in s.body,) * 2,
    "malformed-json:form=deep": (
        lambda s: s.body == b"[" * 100_000,
        lambda s: s.data[3] == "[" * 100_000,
    ),
    "huge-line:mb=2": (
        lambda s: whole(s) and len(s.document["choices"][0]["message"]["content"]) == 2 << 20,
        lambda s: whole_stream(s) and max(map(len, s.data)) > 2 << 20,
    ),
    "huge-body:mb=2": (
        lambda s: whole(s) and len(s.document["choices"][0]["message"]["content"]) == 2 << 20,
        lambda s: whole_stream(s) and len(s.body) > 2_000_000 and max(map(len, s.data)) < 1000,
    ),
    "huge-headers:kb=64": (lambda s: whole(s) and len(s.head) > 64_000,) * 2,
    "gzip-bomb:mb=4": (
        lambda s: len(s.raw) < 20_000 and len(json.loads(zlib.decompress(s.body, 31))["choices"]) == 1,
        lambda s: len(s.raw) < 20_000 and len(zlib.decompress(s.body, 31)) > 4 << 20,
    ),
    "slow-headers:gap=0.002": (lambda s: s.ending == "eof" and s.status == 200,) * 2,
    "slow-tokens:gap=0.02": (lambda s: whole(s) and s.document["usage"] is not None, whole_stream),
    "drip": (lambda s: whole(s) and s.document["usage"] is not None, whole_stream),
    "html": (lambda s: s.status == 502 and s.body.startswith(b"<html>"),) * 2,
    "html:code=200": (lambda s: whole(s) and s.header("content-type") == "text/html; charset=utf-8",) * 2,
    "wrong-type": (
        lambda s: s.header("content-type") == "text/event-stream; charset=utf-8" and s.finishes == ["stop"],
        lambda s: s.header("content-type") == "application/json" and s.document["choices"],
    ),
    "wrong-type:as=text": (lambda s: s.header("content-type") == "text/plain; charset=utf-8",) * 2,
    "error-body": (lambda s: error_of(s, 200),) * 2,
    "error-event:n=3": (
        lambda s: whole(s) and "upstream-error-canary" in s.document["error"]["message"],
        lambda s: whole(s) and len(s.data) == 4 and s.events[3].keys() == {"error"},
    ),
    "error-event:form=field": (whole, lambda s: b"\n\nerror: {" in s.body),
    "error-event:form=named-flat": (whole, lambda s: b"event: error\n" in s.body),
    "error-event:form=router": (whole, lambda s: bool(s.events[3]["error"] and s.events[3]["choices"])),
    "empty": (lambda s: whole(s) and s.body == b"",) * 2,
    "redirect": (lambda s: s.status == 302 and (s.header("location") or "").startswith("http://169.254.169.254/"),) * 2,
    "not-http": (lambda s: s.raw.startswith(b"SSH-2.0"),) * 2,
    "reset-on-reuse": (whole, whole_stream),
    "usage-missing": (lambda s: "usage" not in s.document, lambda s: whole_stream(s) and not s.usages),
    "usage-negative": (
        lambda s: s.document["usage"]["completion_tokens"] == -9,
        lambda s: s.usages[0]["total_tokens"] == -11,
    ),
    "usage-twice": (
        lambda s: s.body.count(b'"usage"') == 2 and s.document["usage"]["completion_tokens"] == 9,
        lambda s: [usage["completion_tokens"] for usage in s.usages] == [4, 9],
    ),
    "usage-absurd": (
        lambda s: b'"completion_tokens":1e30' in s.body,
        lambda s: b'"completion_tokens":1e30' in s.body,
    ),
    "usage-absurd:value=NaN": (lambda s: b'"total_tokens":NaN' in s.body,) * 2,
    "usage-float": (
        lambda s: s.document["usage"]["completion_tokens"] == 9.5,
        lambda s: s.usages[0]["completion_tokens"] == 9.5,
    ),
    "usage-place:at=choice": (
        whole,
        lambda s: not s.usages and s.events[-1]["choices"][0]["usage"]["completion_tokens"] == 9,
    ),
    "usage-place:at=every": (
        whole,
        lambda s: (
            [usage["completion_tokens"] for usage in s.usages][:2] == [0, 0] and s.usages[-1]["completion_tokens"] == 9
        ),
    ),
    "no-done": (whole, lambda s: whole(s) and s.finishes == ["stop"] and "[DONE]" not in s.data),
    "no-finish": (
        lambda s: s.document["choices"][0]["finish_reason"] is None,
        lambda s: whole(s) and not s.finishes and s.data[-1] == "[DONE]",
    ),
    "finish:reason=model_length": (
        lambda s: s.document["choices"][0]["finish_reason"] == "model_length",
        lambda s: s.finishes == ["model_length"],
    ),
    "prelude": (whole, lambda s: whole_stream(s) and s.events[0]["choices"] == []),
    "sparse": (lambda s: "id" not in s.document, lambda s: s.events[1].keys() == {"id", "choices"}),
    "crlf": (whole, lambda s: whole(s) and s.body.endswith(b"data: [DONE]\r\n\r\n")),
    "crlf:ends=cr": (whole, lambda s: b"\n" not in s.body and s.body.endswith(b"data: [DONE]\r\r")),
    "comments": (
        lambda s: whole(s) and s.body.startswith(b"\n\n\n{"),
        lambda s: whole_stream(s) and s.body.startswith(b": OPENROUTER PROCESSING\n\n"),
    ),
    "split-utf8": (
        lambda s: any(part[-1] >= 0xC0 for part in s.chunks) and "世界" in s.body.decode(),
        lambda s: whole_stream(s) and any(part[-1] >= 0xC0 for part in s.chunks),
    ),
    "framing:form=bom": (whole, lambda s: s.body.startswith(b"\xef\xbb\xbfdata: ")),
    "framing:form=two-lines": (whole, lambda s: s.body.count(b"\ndata: ") > 2 * s.body.count(b"\n\n") - 3),
    "framing:form=no-end": (whole, lambda s: whole(s) and s.body.endswith(b"data: [DONE]")),
    "framing:form=u2028": (whole, lambda s: "\u2028" in s.body.decode() and whole_stream(s)),
    "more-tokens:extra=20": (
        lambda s: s.document["usage"]["completion_tokens"] == 25,
        lambda s: s.usages[0]["completion_tokens"] == 25,
    ),
    "reasoning": (
        lambda s: s.document["choices"][0]["message"]["reasoning_content"].startswith("Let me"),
        lambda s: s.events[1]["choices"][0]["delta"] == {"reasoning_content": "Let"},
    ),
    "reasoning:field=think": (
        lambda s: s.document["choices"][0]["message"]["content"].startswith("<think>Let me"),
        lambda s: s.events[1]["choices"][0]["delta"] == {"content": "<th"},
    ),
    "tool-quirks:form=repeat": (
        whole,
        lambda s: tool_deltas(s)[1]["function"]["name"] == "look_up" and "id" in tool_deltas(s)[1],
    ),
    "tool-quirks:form=nulls": (whole, lambda s: tool_deltas(s)[1]["id"] is None),
    "tool-quirks:form=no-index": (whole, lambda s: all("index" not in d for d in tool_deltas(s))),
    "tool-quirks:form=no-id": (whole, lambda s: all("id" not in d for d in tool_deltas(s))),
    "tool-quirks:form=object": (
        lambda s: s.document["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"] == {"city": "example"},
        lambda s: tool_deltas(s)[0]["function"]["arguments"] == {"city": "example"},
    ),
    "tool-quirks:form=late-name": (
        whole,
        lambda s: ["name" in delta["function"] for delta in tool_deltas(s)][:3] == [False, True, False],
    ),
    "tool-quirks:form=finish-stop": (whole, lambda s: s.finishes == ["stop"]),
}


@pytest.mark.parametrize("stream", [False, True], ids=["document", "stream"])
@pytest.mark.parametrize("name", EXPECTED)
async def test_fault_shows_on_the_wire(sim: Simulator, name: str, stream: bool) -> None:
    """Each fault does to a document and to a stream what its row in the table promises."""
    fields: dict[str, Any] = {"max_tokens": 5} if name.startswith("more-tokens") else {}
    if name.startswith("tool-quirks"):
        fields["tools"] = [TOOL]
    seen = await call(sim, f"fault:{name}", stream=stream, **fields)
    assert EXPECTED[name][stream](seen), seen.raw[:2000]


def test_no_fault_is_left_out() -> None:
    """A fault that is added to the table must be shown here."""
    assert {name.partition(":")[0] for name in EXPECTED} == set(FAULTS)


async def test_every_choice_of_every_fault_answers_something(sim: Simulator) -> None:
    """No form that the table lists lacks an implementation."""
    for fault in FAULTS.values():
        for option in fault.options.split():
            name, _, values = option.partition("=")
            for value in values.split("|") if "|" in values else ():
                for stream in (False, True):
                    model = f"fault:{fault.name}:{name}={value}"
                    seen = await call(sim, model, stream=stream, tools=[TOOL])
                    assert seen.ending == "eof", model
                    assert seen.status != 400, seen.raw


async def test_retry_after_as_a_date_lies_ahead(sim: Simulator) -> None:
    """retry-after=date is an HTTP date a moment from now."""
    seen = await call(sim, "fault:status:retry-after=date", stream=False)
    assert email.utils.parsedate_to_datetime(seen.header("retry-after") or "").tzinfo is not None


async def test_fail_first_counts_by_model_name(sim: Simulator) -> None:
    """The first n requests of one name fail, the next succeed; another tag counts anew."""
    model = "fault:fail-first:n=2:code=500"
    statuses = [(await call(sim, f"{model}:tag=a", stream=False)).status for _ in range(4)]
    assert statuses == [500, 500, 200, 200]
    assert (await call(sim, f"{model}:tag=b", stream=False)).status == 500


async def test_flaky_fails_every_second_request(sim: Simulator) -> None:
    """flaky:every=2 lets the first through and refuses the second, again and again."""
    statuses = [(await call(sim, "fault:flaky:every=2", stream=False)).status for _ in range(4)]
    assert statuses == [200, 500, 200, 500]


async def test_faults_apply_to_embeddings_and_completions(sim: Simulator) -> None:
    """The faults of HTTP do not depend on the path."""
    for path in ("embeddings", "completions"):
        body = json.dumps({"model": "fault:cut:n=2", "input": "a", "prompt": "a"}).encode()
        reader, writer = await asyncio.open_connection("127.0.0.1", sim.port)
        writer.write(f"POST /v1/{path} HTTP/1.1\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body)
        seen = Seen(await reader.read(-1), "eof")
        writer.close()
        assert (len(seen.chunks), seen.terminated) == (2, False)


@pytest.mark.parametrize(
    ("model", "status"),
    [
        ("gpt-4o", 404),
        ("fault", 404),
        ("fault:unheard-of", 404),
        ("fault:cut:m=3", 400),
        ("fault:cut:n=three", 400),
        ("fault:cut:n=-1", 400),
        ("fault:crlf:ends=lf", 400),
        ("sim:tokens", 400),
        ("sim:rate=inf", 400),
        ("fault:cut:base=gpt-4o", 400),
    ],
)
def test_a_mistyped_model_name_is_refused(model: str, status: int) -> None:
    """A typing error cannot pass for a working fault."""
    with pytest.raises(ModelNameError) as caught:
        read_model(model)
    assert caught.value.status == status


def test_the_table_lists_every_fault_once() -> None:
    """--list-faults names every fault."""
    lines = describe().split("\n")
    for name in FAULTS:
        assert sum(line.startswith(f"fault:{name} ") for line in lines) == 1
