"""G3 over gRPC: JSON inside the `…_json` fields, and values that the schema has no place for."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]  # ships no types
from tests.e2e.calls import completion_request, said
from tests.e2e.nodes import Node
from tests.faults.holds import hold_of
from tests.faults.probes import MiB
from tests.faults.test_grpc import PATHS, SERVICE
from tests.faults.test_json import SOON_S
from tests.faults.test_large import HOLD_S

from tokendance.gateway.v1 import completion_pb2 as pb
from tokendance.gateway.v1 import completions_service_pb2 as completions

OPENAI = pb.DIALECT_OPENAI_CHAT


@dataclass(frozen=True)
class Answer:
    """How a call ended: the status, and of a refusal the stable code, the field and the request id."""

    status: str
    code: str = ""
    param: str = ""
    request_id: str = ""
    message: str = ""


class Caller:
    """Calls with bytes, over one connection."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._channel = grpc.insecure_channel(node.grpc, options=[("grpc.max_send_message_length", -1)])

    def close(self) -> None:
        """Leave."""
        self._channel.close()

    def __call__(self, asked: pb.CompletionRequest | bytes, path: str = PATHS[0]) -> Answer:
        """Call with a request, or with the bytes of one."""
        message = asked if isinstance(asked, bytes) else _framed(asked)
        metadata = (("authorization", f"Bearer {self._node.api_key}"),)
        try:
            call: Any = self._channel.unary_unary(path)
            call(message, metadata=metadata, timeout=20)
        except grpc.RpcError as failure:
            return _answer(failure)
        return Answer("OK")


def _framed(asked: pb.CompletionRequest) -> bytes:
    return completions.CreateCompletionRequest(completion=asked).SerializeToString()


def _answer(failure: Any) -> Answer:
    packed = dict(failure.trailing_metadata() or ()).get("grpc-status-details-bin")
    assert packed is not None, failure
    info, bad, request = (
        error_details_pb2.ErrorInfo(),
        error_details_pb2.BadRequest(),
        error_details_pb2.RequestInfo(),
    )
    for detail in status_pb2.Status.FromString(packed).details:
        _ = detail.Unpack(info) or detail.Unpack(bad) or detail.Unpack(request)
    param = bad.field_violations[0].field if bad.field_violations else ""
    return Answer(failure.code().name, info.reason.lower(), param, request.request_id, failure.details())


@pytest.fixture(scope="module")
def caller(node: Node) -> Iterator[Caller]:
    """Somebody with a good key."""
    opened = Caller(node)
    yield opened
    opened.close()


def check_refusal(answer: Answer, param: str) -> None:
    """A refusal says what is wrong and where, and by which id to ask about it; never with the words of an exception."""
    assert (answer.status, answer.code) == ("INVALID_ARGUMENT", "invalid_request"), answer
    assert answer.param.startswith(param), answer
    assert answer.request_id.startswith("req_")
    for word in ("Traceback", "Unexpected", "Error(", "recursion"):
        assert word not in answer.message


def deep(levels: int, opening: str = '{"a":', inner: str = "1", closing: str = "}") -> str:
    """Objects in objects."""
    return opening * levels + inner + closing * levels


# name -> (text, whether it is one JSON object)
DOCUMENTS: dict[str, tuple[str, bool]] = {
    "a hundred thousand open objects": ('{"a":' * 100_000, False),
    "a hundred thousand objects": (deep(100_000), False),
    "a hundred thousand arrays": ('{"a":' + deep(100_000, "[", "", "]") + "}", False),
    "two hundred objects": (deep(200), True),
    "two hundred arrays": ('{"a":' + deep(200, "[", "", "]") + "}", True),
    "not a number": ('{"a":NaN}', False),
    "infinity": ('{"a":Infinity}', False),
    "minus infinity": ('{"a":-Infinity}', False),
    "an exponent that is too large": ('{"a":1e999}', False),
    "an exponent that is too small": ('{"a":1e-999}', True),
    "a number of five thousand digits": ('{"a":' + "9" * 5000 + "}", False),
    "a negative number of five thousand digits": ('{"a":-' + "9" * 5000 + "}", False),
    "a fraction of five thousand digits": ('{"a":0.' + "9" * 5000 + "}", True),
    "a number beyond 64 bits": ('{"a":18446744073709551616}', True),
    "a repeated name": ('{"a":1,"a":2}', True),
    "a repeated name in disguise": ('{"a":1,"\\u0061":2}', True),
    "half a surrogate": ('{"a":"\\ud800"}', False),
    "half a surrogate in a name": ('{"\\ud800":1}', False),
    "surrogates in the wrong order": ('{"a":"\\udc00\\ud800"}', False),
    "a byte order mark": ('\ufeff{"a":1}', False),
    "a null byte in a text": ('{"a":"\0"}', False),
    "an escaped null byte": ('{"a":"\\u0000"}', True),
    "a null byte behind the end": ('{"a":1}\0', False),
    "an array": ("[]", False),
    "null": ("null", False),
    "a text": ('"text"', False),
    "a number": ("1", False),
    "two documents": ("{}{}", False),
    "half a document": ('{"a"', False),
    "a comment": ("/* */{}", False),
    "a comma too much": ('{"a":1,}', False),
    "single quotes": ("{'a':1}", False),
    "white space": (" " * 1000, False),
    "null in it": ('{"a":null}', True),
    "names that mean something elsewhere": ('{"__proto__":{"a":1},"constructor":1,"$ref":"#"}', True),
}


def with_extra(text: str, dialect: pb.Dialect.ValueType = OPENAI) -> pb.CompletionRequest:
    """Unknown fields of the request."""
    return completion_request("sim", dialect=dialect, extra_json=text)


def with_tool(**fields: Any) -> pb.CompletionRequest:
    """A tool."""
    return completion_request("sim", dialect=OPENAI, tools=[pb.Tool(**({"name": "a"} | fields))])


def with_schema(text: str) -> pb.CompletionRequest:
    """A form of the answer."""
    wanted = pb.ResponseFormat(kind=pb.RESPONSE_FORMAT_KIND_JSON_SCHEMA, name="a", schema_json=text)
    return completion_request("sim", response_format=wanted)


def with_message(message: pb.Message) -> pb.CompletionRequest:
    """One more message."""
    return completion_request("sim", dialect=OPENAI, messages=[said("Hello"), message])


def with_part(part: pb.Part) -> pb.CompletionRequest:
    """One more part."""
    return with_message(pb.Message(role=pb.ROLE_USER, parts=[*said("Hello").parts, part]))


def with_call(text: str) -> pb.CompletionRequest:
    """A call of a tool, as the model made it."""
    call = pb.ToolCall(id="1", name="a", kind=pb.TOOL_KIND_FUNCTION, arguments_json=text)
    return with_message(pb.Message(role=pb.ROLE_ASSISTANT, parts=[pb.Part(tool_call=call)]))


# name -> (the request with this text, the field that is named)
FIELDS: dict[str, tuple[Callable[[str], pb.CompletionRequest], str]] = {
    "extra_json": (with_extra, "extra_json"),
    "extra_json of no dialect": (lambda text: with_extra(text, pb.DIALECT_UNSPECIFIED), "extra_json"),
    "parameters_json": (
        lambda text: with_tool(kind=pb.TOOL_KIND_FUNCTION, parameters_json=text), "tools[0].function.parameters"),
    "a tool's extra_json": (lambda text: with_tool(kind=pb.TOOL_KIND_FUNCTION, extra_json=text), "tools[0]"),
    "format_json": (lambda text: with_tool(kind=pb.TOOL_KIND_CUSTOM, format_json=text), "tools[0].custom.format"),
    "native_json": (lambda text: with_tool(kind=pb.TOOL_KIND_HOSTED, native_json=text), "tools[0]"),
    "schema_json": (with_schema, "response_format.json_schema.schema"),
    "a message's extra_json": (
        lambda text: with_message(pb.Message(role=pb.ROLE_USER, parts=said("a").parts, extra_json=text)),
        "messages[1]"),
    "a part's extra_json": (
        lambda text: with_part(pb.Part(text=pb.Text(text="a"), extra_json=text)), "messages[1]"),
    "a native part": (
        lambda text: with_part(pb.Part(native=pb.NativePart(dialect=OPENAI, type="video", json=text))), "messages[1]"),
    "arguments_json": (with_call, ""),
}  # fmt: skip
# What fields of their own limit say where a document is larger.
LIMITED = frozenset({"a tool's extra_json", "a message's extra_json", "a part's extra_json"})


@pytest.mark.parametrize("document", DOCUMENTS)
@pytest.mark.parametrize("name", FIELDS)
def test_each_document_in_each_field_is_answered(caller: Caller, name: str, document: str) -> None:
    """One object is taken, everything else is refused with its field; and the next call is served."""
    make, param = FIELDS[name]
    text, is_object = DOCUMENTS[document]
    answer = caller(make(text))
    if name == "arguments_json":
        # The model's own words, which need not be JSON, and are nobody's to read.
        assert answer.status == "OK"
    elif is_object and name == "native_json":
        # What the upstream says of a tool that it does not know.
        assert answer.code in ("", "provider_rejected")
    elif is_object:
        assert answer.status == "OK", answer
    else:
        check_refusal(answer, f"completion.{param}" if name in LIMITED and len(text) > 65_536 else param)
    assert caller(completion_request("sim")).status == "OK"


@pytest.mark.parametrize("name", [name for name in FIELDS if name != "arguments_json"])
def test_no_depth_falls_between_reading_and_writing(caller: Caller, name: str) -> None:
    """What is read can be written again one object deeper, or is refused as too deep; at each of many depths."""
    make, param = FIELDS[name]
    for levels in range(940, 1010):
        answer = caller(make(deep(levels)))
        if answer.code not in ("", "provider_rejected"):
            check_refusal(answer, param)


def changed(**fields: Any) -> pb.CompletionRequest:
    """A good request with other values."""
    return completion_request("sim", **fields)


def sampled(**fields: Any) -> pb.CompletionRequest:
    """A good request with other ways to draw tokens."""
    return completion_request("sim", sampling=pb.Sampling(**fields))


def ruined(good: str, bad: bytes, **fields: Any) -> bytes:
    """A good request in which a text was replaced by bytes of the same length."""
    framed = _framed(completion_request("sim", **fields))
    assert framed.count(good.encode()) == 1
    assert len(good) == len(bad)
    return framed.replace(good.encode(), bad)


TOOL = pb.Tool(kind=pb.TOOL_KIND_FUNCTION, name="a")
EMPTY = pb.Message(role=pb.ROLE_USER)

# name -> (request, the field that is named, or None where it is taken)
REQUESTS: dict[str, tuple[pb.CompletionRequest | bytes, str | None]] = {
    "a negative cap": (changed(max_output_tokens=-1), "completion.max_output_tokens"),
    "a cap of nothing": (changed(max_output_tokens=0), "completion.max_output_tokens"),
    "the largest cap": (changed(max_output_tokens=2**63 - 1), None),
    "a thousand choices": (changed(choice_count=1000), "completion.choice_count"),
    "no choices": (changed(choice_count=0), "completion.choice_count"),
    "a negative choice": (changed(choice_count=-1), "completion.choice_count"),
    "a temperature that is no number": (sampled(temperature=math.nan), "completion.sampling.temperature"),
    "an infinite temperature": (sampled(temperature=math.inf), "completion.sampling.temperature"),
    "a temperature below nothing": (sampled(temperature=-1e-300), "completion.sampling.temperature"),
    "a top_p that is no number": (sampled(top_p=math.nan), "completion.sampling.top_p"),
    "a penalty that is no number": (sampled(presence_penalty=math.nan), "completion.sampling.presence_penalty"),
    "an infinite penalty": (sampled(frequency_penalty=-math.inf), "completion.sampling.frequency_penalty"),
    "a bias that is no number": (sampled(logit_bias={"1": math.nan}), "completion.sampling.logit_bias"),
    "an infinite bias": (sampled(logit_bias={"1": math.inf}), "completion.sampling.logit_bias"),
    "a bias of a billion": (sampled(logit_bias={"1": 1e9}), "completion.sampling.logit_bias"),
    "seeds of 64 bits": (sampled(seed=-(2**63)), None),
    "too many ends": (sampled(stop=["a"] * 1025), "completion.sampling.stop"),
    "too many alternatives": (changed(logprobs=pb.Logprobs(enabled=True, top=1000)), "completion.logprobs.top"),
    "no messages": (changed(messages=[]), "completion.messages"),
    "an empty message": (changed(messages=[EMPTY]), None),
    "a message of nobody": (changed(messages=[pb.Message()]), "completion.messages[0].role"),
    "a part of nothing": (
        changed(messages=[pb.Message(role=pb.ROLE_USER, parts=[pb.Part()])]), "completion.messages[0].parts[0]"),
    "a picture of nothing": (
        changed(messages=[pb.Message(role=pb.ROLE_USER, parts=[pb.Part(image=pb.Image())])]),
        "completion.messages[0].parts[0].image"),
    "ten thousand tools": (changed(tools=[TOOL] * 10_000), "completion.tools"),
    "as many tools as are served": (
        changed(tools=[pb.Tool(kind=pb.TOOL_KIND_FUNCTION, name=f"a{number}") for number in range(1024)]), None),
    "a tool with a long name": (changed(tools=[pb.Tool(name="a" * 10_000)]), "completion.tools[0].name"),
    "a hundred labels": (changed(metadata={str(number): "" for number in range(100)}), "completion.metadata"),
    "a label without a name": (changed(metadata={"": ""}), "completion.metadata"),
    "a label of a megabyte": (changed(metadata={"a": "x" * MiB}), "completion.metadata"),
    "a user of a megabyte": (changed(user="x" * MiB), "completion.user"),
    "no model": (completion_request(""), "completion.model"),
    "a model of 257 characters": (completion_request("m" * 257), "completion.model"),
    "a null byte in a text": (changed(messages=[said("a\0b")]), None),
    "code in a text": (changed(messages=[said("{{7*7}}<script>${jndi:ldap://a}%00")]), None),
    "a text with half a surrogate": (ruined("Hello", b"a\xed\xa0\x80b"), ""),
    "a text that is no UTF-8": (ruined("Hello", b"\xff\xfe\xfd\xfc\xfb"), ""),
    "a text in UTF-8 that is too long": (ruined("Hello", b"abc\xc0\xaf"), ""),
    "JSON that is no UTF-8": (ruined('{"aa":1}', b'{"\xff\xfe":1}', extra_json='{"aa":1}'), ""),
    "no request": (b"", "completion"),
    "a request that is empty": (b"\x0a\x00", "completion"),
}  # fmt: skip


@pytest.mark.parametrize("name", REQUESTS)
def test_each_value_is_answered(caller: Caller, name: str) -> None:
    """With the field that is wrong; and the next call is served."""
    asked, param = REQUESTS[name]
    answer = caller(asked)
    if param is None:
        assert answer.status == "OK", answer
    else:
        check_refusal(answer, param)
    assert caller(completion_request("sim")).status == "OK"


NAMES = "{" + ",".join(f'"f{number}":1' for number in range(1_000_000)) + "}"
FEW_NAMES = json.dumps(dict.fromkeys(map(str, range(40_000)), 0), separators=(",", ":"))

# name -> (request, whether it is taken)
LARGE: dict[str, tuple[Callable[[], pb.CompletionRequest | bytes], bool]] = {
    "a million names in a schema": (lambda: FIELDS["parameters_json"][0](NAMES), False),
    "a million names in a form of the answer": (lambda: with_schema(NAMES), False),
    "a million names in an extra_json": (lambda: with_extra(NAMES), False),
    "a million names in arguments": (lambda: with_call(NAMES), False),
    "names in a hundred schemas": (
        lambda: changed(tools=[pb.Tool(name="a", parameters_json=FEW_NAMES)] * 100), False),
    "as many names as are read": (lambda: FIELDS["parameters_json"][0](FEW_NAMES), True),
    "a hundred thousand messages": (lambda: changed(messages=[said("Hello")] * 100_000), False),
    "forty thousand messages": (lambda: changed(messages=[said("Hello")] * 40_000), False),
    "ten thousand messages": (lambda: changed(messages=[said("Hello")] * 10_000), True),
    "twenty million empty messages": (lambda: _empty(b"\x12\x00", 20_000_000), False),
    "thirteen million empty tools": (lambda: _empty(b"\x1a\x00", 13_000_000), False),
    "forty million modalities": (lambda: b"\x0a\xff\xff\xff\x12\x62\xfa\xff\xff\x12" + b"\1" * 39_845_882, False),
    "a prompt of 32 MiB": (lambda: changed(messages=[said("x" * 32 * MiB)]), True),
    "a prompt of line breaks": (lambda: changed(messages=[said("\n" * 16 * MiB)]), True),
    "a picture of 24 MiB": (
        lambda: with_part(pb.Part(image=pb.Image(data=b"x" * 24 * MiB))), True),
    "a megabyte in unknown fields": (lambda: _framed(changed()) + b"\xfa\x7f\x80\x80\x40" + b"x" * MiB, True),
}  # fmt: skip


def _empty(field: bytes, count: int) -> bytes:
    from tests.faults.test_grpc import varint

    return b"\x0a" + varint(len(field) * count) + field * count


@pytest.mark.parametrize("name", LARGE)
def test_a_large_message_holds_nobody_up(roomy: Node, name: str) -> None:
    """At the limit that a node has by itself."""
    make, taken = LARGE[name]
    asked = make()
    message = asked if isinstance(asked, bytes) else _framed(asked)
    caller = Caller(roomy)
    answers: list[Answer] = []
    hold_s = hold_of(roomy, lambda: answers.append(caller(message)))
    print(f"hold {hold_s * 1000:4.0f} ms, {len(message) / MiB:4.1f} MiB: {name}")
    for answer in answers:
        if taken:
            assert answer.status == "OK", answer
        else:
            check_refusal(answer, "")
    assert hold_s < HOLD_S
    assert caller(completion_request("sim")).status == "OK"
    caller.close()


EMBEDDINGS: dict[str, tuple[pb.EmbeddingsRequest, str]] = {
    "nothing": (pb.EmbeddingsRequest(), "embeddings"),
    "no inputs": (pb.EmbeddingsRequest(model="sim"), "embeddings"),
    "too many inputs": (pb.EmbeddingsRequest(model="sim", inputs=["a"] * 3000), "embeddings.inputs"),
    "fields that are no JSON": (pb.EmbeddingsRequest(model="sim", inputs=["a"], extra_json="NaN"), "extra_json"),
    "deep fields": (pb.EmbeddingsRequest(model="sim", inputs=["a"], extra_json=deep(100_000)), "extra_json"),
}


@pytest.mark.parametrize("name", EMBEDDINGS)
def test_embeddings_are_answered_alike(caller: Caller, name: str) -> None:
    """The same for vectors."""
    asked, param = EMBEDDINGS[name]
    message = completions.CreateEmbeddingsRequest(embeddings=asked).SerializeToString()
    check_refusal(caller(message, f"{SERVICE}/CreateEmbeddings"), param)


def test_it_takes_no_time(caller: Caller) -> None:
    """What is small is answered at once, whatever it holds."""
    for make, _ in FIELDS.values():
        for text, _ in DOCUMENTS.values():
            began = time.monotonic()
            caller(make(text))
            assert time.monotonic() - began < SOON_S
