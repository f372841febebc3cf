"""The built-in demo: a model that repeats what it is told, so that the gateway can be tried without any provider.

It is deterministic. A token is four bytes of UTF-8 begun, in prompts and answers alike; a medium counts 800. It calls
a tool where the request makes it, or where the last message says a tool's name; after a tool's result it quotes that.
Where JSON is asked for it answers a small document that satisfies the schema.
"""

from __future__ import annotations

import array
import hashlib
import math
import re
import sys
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import completion_pb2 as pb
from tokendance.gateway.v1 import errors_pb2
from tokendance_server.domain.upstream import UpstreamCall
from tokendance_server.providers import json_text
from tokendance_server.providers.estimates import BYTES_PER_TOKEN, estimate_input, size_of, tokens_of
from tokendance_server.providers.field_paths import message_path
from tokendance_server.providers.schema_sample import WORD, sample
from tokendance_server.providers.warnings import Warnings

INTRODUCTION = "This is the demo model of TokenDance Gateway; "
DEFAULT_CAP = 4096
DEFAULT_DIMENSIONS = 8
MOST_DIMENSIONS = 4096
MOST_NUMBERS = 1024 * 1024
"""How many numbers all vectors of one call may have together."""

_PIECE = re.compile(r"\S{1,16}\s*|\s+")


@dataclass(frozen=True, slots=True)
class _Reply:
    """What the demo says: a text, or the call of a tool with its arguments."""

    text: str
    finish_reason: pb.FinishReason.ValueType
    stop_sequence: str = ""
    call: pb.ToolCall | None = None


class DemoUpstream:
    """The demo as an upstream. Satisfies domain.upstream.Upstream; waits for nothing."""

    async def complete(self, request: pb.CompletionRequest, call: UpstreamCall) -> pb.Completion:
        """Answer in one message. Raises invalid_request for a tool choice or a schema that cannot be followed."""
        reply = _reply(request)
        completion = pb.Completion(id="demo", model=call.model, usage=_usage(request, reply))
        for index in range(_choices(request)):
            choice = completion.choices.add(
                index=index,
                finish_reason=reply.finish_reason,
                native_finish_reason="demo",
                stop_sequence=reply.stop_sequence,
                message=pb.Message(role=pb.ROLE_ASSISTANT),
            )
            if reply.call is None:
                choice.message.parts.add().text.text = reply.text
            else:
                choice.message.parts.add().tool_call.CopyFrom(_whole_call(reply.call, reply.text))
        return completion

    async def stream(
        self, request: pb.CompletionRequest, call: UpstreamCall
    ) -> AsyncIterator[Sequence[pb.CompletionEvent]]:
        """Answer word by word, each in a batch of its own. Raises as `complete`, before the first."""
        reply = _reply(request)
        yield [pb.CompletionEvent(started=pb.Started(id="demo", model=call.model))]
        for index in range(_choices(request)):
            if reply.call is not None:
                yield [pb.CompletionEvent(tool_call=_first_delta(reply.call, index))]
            for piece in _PIECE.findall(reply.text):
                yield [_delta(reply, index, piece)]
            ended = pb.ChoiceFinished(
                choice=index,
                finish_reason=reply.finish_reason,
                native_finish_reason="demo",
                stop_sequence=reply.stop_sequence,
            )
            yield [pb.CompletionEvent(choice_finished=ended)]
        yield [pb.CompletionEvent(finished=pb.Finished(usage=_usage(request, reply)))]

    async def embed(self, request: pb.EmbeddingsRequest, call: UpstreamCall) -> pb.Embeddings:
        """Turn each text into a unit vector of its hash: equal for equal texts, and else without meaning.

        Raises invalid_request for more than 4,096 dimensions, or too many numbers in one call.
        """
        dimensions = request.dimensions if request.HasField("dimensions") else DEFAULT_DIMENSIONS
        seeds = [text.encode() for text in request.inputs]
        seeds += [repr(list(tokens.ids)).encode() for tokens in request.token_inputs]
        if dimensions > MOST_DIMENSIONS:
            raise _invalid("dimensions", f"The demo makes vectors of at most {MOST_DIMENSIONS} numbers.")
        if dimensions * len(seeds) > MOST_NUMBERS:
            raise _invalid("input", f"The demo makes at most {MOST_NUMBERS} numbers a call; send fewer texts at once.")
        tokens = sum(tokens_of(size_of(text)) for text in request.inputs)
        tokens += sum(len(ids.ids) for ids in request.token_inputs)
        return pb.Embeddings(
            model=call.model,
            embeddings=[
                pb.Embedding(index=index, float32_le=_unit_vector(seed, dimensions)) for index, seed in enumerate(seeds)
            ],
            usage=pb.Usage(input_tokens=tokens, source=pb.USAGE_SOURCE_PROVIDER),
        )

    async def discover(self, call: UpstreamCall) -> Sequence[str]:
        """Return the one name that its models usually have; it takes any."""
        return ["demo-echo"]

    def warnings(self, request: pb.CompletionRequest) -> Sequence[pb.Warning]:
        """Tell what the demo ignores; raises unsupported_parameter where sound or pictures are asked for."""
        if any(modality != pb.MODALITY_TEXT for modality in request.modalities):
            raise GatewayError(
                errors_pb2.ERROR_REASON_UNSUPPORTED_PARAMETER,
                "The demo answers in text only; leave out modalities.",
                param="modalities",
                metadata={"param": "modalities"},
                origin="caller",
            )
        left_out = Warnings()
        left_out.add_all(_ignored(request), "The demo model ignores it.")
        return left_out.told()


def _ignored(request: pb.CompletionRequest) -> list[str]:
    fields = [
        name
        for name in ("temperature", "top_p", "top_k", "frequency_penalty", "presence_penalty", "seed")
        if request.sampling.HasField(name)
    ]
    if request.sampling.logit_bias:
        fields.append("logit_bias")
    if request.logprobs.enabled:
        fields.append("logprobs")
    if request.HasField("reasoning"):
        fields.append("reasoning")
    if request.verbosity:
        fields.append("verbosity")
    if request.service_tier:
        fields.append("service_tier")
    if request.extra_json:
        fields += json_text.caller_extra(request.extra_json, "extra_json")
    fields += [header.name for header in request.dialect_headers]
    fields += [f"tools[{at}]" for at, tool in enumerate(request.tools) if tool.kind == pb.TOOL_KIND_HOSTED]
    for at, message in enumerate(request.messages):
        if any(part.WhichOneof("content") in ("image", "audio", "file", "native") for part in message.parts):
            fields.append(message_path(request, at))
    return fields


def _reply(request: pb.CompletionRequest) -> _Reply:
    """Decide what to say: quote a result, call a tool, write JSON, or repeat."""
    results = [part.tool_result for part in request.messages[-1].parts if part.HasField("tool_result")]
    said = _last_user_text(request)
    if results:
        quoted = ", ".join(f'"{_text(result.parts)}"' for result in results)
        return _spoken(request, f"{INTRODUCTION}the tool answered: {quoted}")
    tool = _wanted_tool(request, said)
    if tool is not None:
        return _called(request, tool)
    kind = request.response_format.kind
    if kind == pb.RESPONSE_FORMAT_KIND_JSON_OBJECT:
        return _spoken(request, json_text.write({"demo": True, "said": said}))
    if kind == pb.RESPONSE_FORMAT_KIND_JSON_SCHEMA:
        schema = request.response_format.schema_json or "{}"
        return _spoken(
            request, json_text.write(sample(json_text.caller_object(schema, "response_format.json_schema.schema")))
        )
    return _spoken(request, f"{INTRODUCTION}it repeats what you say: {said}")


def _spoken(request: pb.CompletionRequest, text: str) -> _Reply:
    """The text up to the first stop text and the output cap."""
    stops = [(text.find(stop), stop) for stop in request.sampling.stop if stop and stop in text]
    at, stop = min(stops, default=(len(text), ""))
    short = _capped(request, text[:at])
    if len(short) < at:
        return _Reply(short, pb.FINISH_REASON_LENGTH)
    return _Reply(short, pb.FINISH_REASON_STOP, stop)


def _called(request: pb.CompletionRequest, tool: pb.Tool) -> _Reply:
    call = pb.ToolCall(id=f"call_demo_{len(request.messages)}", name=tool.name, kind=tool.kind or pb.TOOL_KIND_FUNCTION)
    if tool.kind == pb.TOOL_KIND_CUSTOM:
        text = WORD
    else:
        schema = json_text.caller_object(tool.parameters_json or "{}", "tools")
        document = sample({"type": "object", **schema})
        text = json_text.write(document)
    short = _capped(request, text)
    whole = len(short) == len(text)
    return _Reply(short, pb.FINISH_REASON_TOOL_CALLS if whole else pb.FINISH_REASON_LENGTH, call=call)


def _capped(request: pb.CompletionRequest, text: str) -> str:
    cap = request.max_output_tokens if request.HasField("max_output_tokens") else DEFAULT_CAP
    most = cap * BYTES_PER_TOKEN
    return text if size_of(text) <= most else text.encode()[:most].decode(errors="ignore")


def _wanted_tool(request: pb.CompletionRequest, said: str) -> pb.Tool | None:
    """The tool that must be called, or the first one that is spoken of."""
    choice = request.tool_choice
    allowed = frozenset(choice.allowed_names)
    tools = [
        tool for tool in request.tools if tool.kind != pb.TOOL_KIND_HOSTED and (not allowed or tool.name in allowed)
    ]
    if choice.mode == pb.TOOL_CHOICE_MODE_NONE:
        return None
    if choice.mode == pb.TOOL_CHOICE_MODE_TOOL:
        tools = [tool for tool in tools if tool.name == choice.name]
    if choice.mode in (pb.TOOL_CHOICE_MODE_REQUIRED, pb.TOOL_CHOICE_MODE_TOOL):
        if not tools:
            raise _invalid("tool_choice", "The tool choice asks for a tool that is not among the tools.")
        return tools[0]
    return next((tool for tool in tools if tool.name and tool.name in said), None)


def _last_user_text(request: pb.CompletionRequest) -> str:
    for message in reversed(request.messages):
        if message.role == pb.ROLE_USER:
            return _text(message.parts)
    return ""


def _text(parts: Sequence[pb.Part]) -> str:
    return " ".join(part.text.text for part in parts if part.HasField("text"))


def _choices(request: pb.CompletionRequest) -> int:
    return request.choice_count if request.HasField("choice_count") else 1


def _usage(request: pb.CompletionRequest, reply: _Reply) -> pb.Usage:
    return pb.Usage(
        input_tokens=estimate_input(request),
        output_tokens=tokens_of(size_of(reply.text)) * _choices(request),
        source=pb.USAGE_SOURCE_PROVIDER,
    )


def _whole_call(call: pb.ToolCall, text: str) -> pb.ToolCall:
    whole = pb.ToolCall()
    whole.CopyFrom(call)
    if call.kind == pb.TOOL_KIND_CUSTOM:
        whole.input = text
    else:
        whole.arguments_json = text
    return whole


def _first_delta(call: pb.ToolCall, choice: int) -> pb.ToolCallDelta:
    return pb.ToolCallDelta(choice=choice, id=call.id, name=call.name, kind=call.kind)


def _delta(reply: _Reply, choice: int, piece: str) -> pb.CompletionEvent:
    if reply.call is not None:
        return pb.CompletionEvent(tool_call=pb.ToolCallDelta(choice=choice, arguments=piece))
    return pb.CompletionEvent(text=pb.TextDelta(choice=choice, text=piece))


def _unit_vector(seed: bytes, dimensions: int) -> bytes:
    """A vector of length 1 from a hash of the seed, as little-endian 32-bit floats."""
    numbers = array.array("h", hashlib.shake_256(seed).digest(2 * dimensions))
    if sys.byteorder == "big":
        numbers.byteswap()
    length = math.sqrt(sum(number * number for number in numbers)) or 1.0
    vector = array.array("f", [number / length for number in numbers])
    if sys.byteorder == "big":
        vector.byteswap()
    return vector.tobytes()


def _invalid(param: str, message: str) -> GatewayError:
    return GatewayError(
        errors_pb2.ERROR_REASON_INVALID_REQUEST, message, param=param, metadata={"param": param}, origin="caller"
    )
