"""A Responses request towards an upstream of another wire format: what only that dialect has is mapped, or told.

Mapped: tools in namespaces become tools of longer names, and their calls come back under the names that the caller
gave; tools that the conversation declares become tools of the request; names that other APIs do not take are spelt
with underscores. Left out and named: records of what hosted tools did in earlier turns, and unknown fields of items.
Refused: items that stand for something that only their upstream can read, such as a compacted conversation.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import NamedTuple

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import completion_pb2 as pb
from tokendance.gateway.v1 import errors_pb2
from tokendance_server.providers import CapsOutput, Codec, StreamDecoder, UpstreamRequest, json_text
from tokendance_server.providers.openai_responses.custom_tools import (
    StreamedInputs,
    call_as_function,
    declare_as_functions,
    has_custom,
    restore_call,
)
from tokendance_server.providers.openai_responses.places import Places, is_item
from tokendance_server.providers.warnings import Warnings

_DIALECT = pb.DIALECT_OPENAI_RESPONSES
_MOST_CHARACTERS = 64
_FOREIGN = re.compile(r"[^A-Za-z0-9_-]")
_RECORDS = ("_output", "_response")
_ABOUT_TOOLS = frozenset({"tool_choice", "parallel_tool_calls"})
# What other dialects call the fields of this one.
_NAMES = {
    "logprobs": "include",
    "max_completion_tokens": "max_output_tokens",
    "max_tokens": "max_output_tokens",
    "messages": "input",
    "reasoning.include_encrypted": "include",
    "reasoning_effort": "reasoning.effort",
    "response_format": "text.format",
    "response_format.json_schema": "text.format",
    "response_format.json_schema.schema": "text.format.schema",
    "response_format.json_schema.strict": "text.format.strict",
    "verbosity": "text.verbosity",
}
_PATH = re.compile(r"(messages|tools)\[(\d{1,6})\](?:\.(?:parts|content)\[(\d{1,6})\])?")


class Name(NamedTuple):
    """A tool's name as its caller gave it."""

    namespace: str
    name: str


class Plain(NamedTuple):
    """A request without what only Responses has."""

    request: pb.CompletionRequest
    names: Mapping[str, Name]
    """The names that were changed: the name that goes upstream to the caller's."""
    kept: Sequence[Sequence[int]]
    """For each message its place among the caller's, and those of its parts, as `[message, part, part, …]`."""
    warnings: Sequence[pb.Warning]
    custom: Collection[str]
    """The names of the functions that stand for custom tools."""


class ElsewhereCodec:
    """A codec of another wire format that takes Responses requests, too. Others pass unchanged.

    Without `takes_custom`, custom tools of any dialect go upstream as functions.
    """

    def __init__(self, codec: Codec, *, takes_custom: bool = True) -> None:
        self.models_path = codec.models_path
        self._codec = codec
        self._takes_custom = takes_custom
        # Asked once: of a protocol the answer takes longer than writing a request.
        self._caps = codec if isinstance(codec, CapsOutput) else None

    def warnings(self, request: pb.CompletionRequest) -> Sequence[pb.Warning]:
        """Tell what would be left out; raises unsupported_parameter where that would change the answer."""
        if not self._needs(request):
            return self._codec.warnings(request)
        plain = self._simplify(request)
        places = Places(request) if request.dialect == _DIALECT else None
        told = Warnings()
        for warning in plain.warnings:
            told.add(warning.field, warning.why)
        try:
            others = self._codec.warnings(plain.request)
        except GatewayError as error:
            if error.param is not None:
                error.param = error.metadata["param"] = _caller_path(places, plain, error.param)
            raise
        for warning in others:
            told.add(_caller_path(places, plain, warning.field), warning.why)
        return told.told()

    def capped(self, request: pb.CompletionRequest, output_cap: int | None) -> pb.CompletionRequest:
        """Return the request with a cap on its answer, where the other wire format must name one."""
        return request if self._caps is None else self._caps.capped(request, output_cap)

    def encode_completion(self, request: pb.CompletionRequest, model: str, *, stream: bool) -> UpstreamRequest:
        """Write the request for the upstream's model; `warnings` has let it pass."""
        asked = self._simplify(request).request if self._needs(request) else request
        return self._codec.encode_completion(asked, model, stream=stream)

    def decode_completion(self, body: bytes, request: pb.CompletionRequest) -> pb.Completion:
        """Read a whole answer. Raises provider_error, or the error that it holds."""
        if not self._needs(request):
            return self._codec.decode_completion(body, request)
        plain = self._simplify(request)
        completion = self._codec.decode_completion(body, plain.request)
        for choice in completion.choices:
            for part in choice.message.parts:
                if not part.HasField("tool_call"):
                    continue
                call = part.tool_call
                if call.name in plain.custom:
                    restore_call(call)
                if call.name in plain.names:
                    call.namespace, call.name = plain.names[call.name]
        return completion

    def stream_decoder(self, request: pb.CompletionRequest) -> StreamDecoder:
        """Return a decoder for one streamed answer to `request`."""
        if not self._needs(request):
            return self._codec.stream_decoder(request)
        plain = self._simplify(request)
        decoder = self._codec.stream_decoder(plain.request)
        return _Restoring(decoder, plain) if plain.names or plain.custom else decoder

    def encode_embeddings(self, request: pb.EmbeddingsRequest, model: str) -> UpstreamRequest:
        """Write the request for vectors."""
        return self._codec.encode_embeddings(request, model)

    def decode_embeddings(self, body: bytes, request: pb.EmbeddingsRequest) -> pb.Embeddings:
        """Read vectors. Raises provider_error, or the error that the body holds."""
        return self._codec.decode_embeddings(body, request)

    def decode_models(self, body: bytes) -> Sequence[str]:
        """Read the list of models. Raises provider_error."""
        return self._codec.decode_models(body)

    def error_of_body(self, body: bytes) -> GatewayError:
        """Say what a document means that came under status 200 in place of a stream."""
        return self._codec.error_of_body(body)

    def decode_error(self, status: int, headers: Mapping[str, str], body: bytes) -> GatewayError:
        """Say what a refusal means, in the gateway's words. `headers` have lower-case names."""
        return self._codec.decode_error(status, headers, body)

    def credential_headers(self, credential: str) -> tuple[tuple[str, str], ...]:
        """Return the headers that carry the credential."""
        return self._codec.credential_headers(credential)

    def _needs(self, request: pb.CompletionRequest) -> bool:
        if request.dialect == _DIALECT:
            return True
        # Most requests have no tools, and pass at once.
        if request.tools and any(tool.namespace for tool in request.tools):
            return True
        return not self._takes_custom and has_custom(request)

    def _simplify(self, request: pb.CompletionRequest) -> Plain:
        return simplify(request, takes_custom=self._takes_custom)


class _Restoring:
    """A stream whose calls get back the names, and the kinds, that their tools have for the caller."""

    def __init__(self, decoder: StreamDecoder, plain: Plain) -> None:
        self._decoder = decoder
        self._names = plain.names
        self._inputs = StreamedInputs(plain.custom) if plain.custom else None
        self.done = decoder.done

    def feed(self, data: bytes) -> Sequence[pb.CompletionEvent]:
        """Return what these bytes complete."""
        events = self._decoder.feed(data)
        self.done = self._decoder.done
        return self._restored(events)

    def close(self) -> Sequence[pb.CompletionEvent]:
        """Return what the end of the body completes."""
        return self._restored(self._decoder.close())

    def _restored(self, events: Sequence[pb.CompletionEvent]) -> Sequence[pb.CompletionEvent]:
        if self._inputs is not None:
            events = self._inputs.restored(events)
        for event in events:
            if event.HasField("tool_call") and event.tool_call.name in self._names:
                event.tool_call.namespace, event.tool_call.name = self._names[event.tool_call.name]
        return events


def simplify(request: pb.CompletionRequest, *, takes_custom: bool = True) -> Plain:
    """Return a copy of a request in which nothing is left that only Responses has, nor custom tools if unwanted.

    Raises unsupported_parameter for items that no other upstream can read.
    """
    told = Warnings()
    places = Places(request)
    copy = pb.CompletionRequest()
    copy.CopyFrom(request)
    if copy.logprobs.top and request.dialect == _DIALECT:
        # Said expressly, because in this dialect the number alone asks for them.
        copy.logprobs.enabled = True
    for index, tool in enumerate(request.tools):
        if tool.namespace_json:
            _describe(places.of_tool(index), copy.tools[index], told)
    names = _rename_tools(copy)
    if request.extra_json and not request.tools:
        extra = json_text.caller_extra(request.extra_json, "extra_json")
        # Without tools these say nothing, so there is nothing to be told.
        copy.extra_json = json_text.write_object({name: extra[name] for name in extra if name not in _ABOUT_TOOLS})
    custom: Collection[str] = ()
    if not takes_custom:
        for index, tool in enumerate(request.tools):
            if tool.format_json:
                path = places.of_tool(index) if request.dialect == _DIALECT else f"tools[{index}]"
                told.add(f"{path}.format", "This model follows no grammar; the tool's input is free text.")
        custom = declare_as_functions(copy)
    flat = {name: short for short, name in names.items()}
    del copy.messages[:]
    kept: list[list[int]] = []
    for at, message in enumerate(request.messages):
        parts = [
            part_at
            for part_at, part in enumerate(message.parts)
            if _stays(part, message.role, partial(places.of, at, part_at), told)
        ]
        if message.parts and not parts:
            continue
        into = copy.messages.add()
        into.CopyFrom(message)
        if len(parts) != len(message.parts):
            del into.parts[:]
            into.parts.extend(message.parts[part_at] for part_at in parts)
        for part in into.parts:
            if not takes_custom:
                call_as_function(part)
            if part.HasField("tool_call"):
                call = part.tool_call
                call.name = flat.get(Name(call.namespace, call.name)) or short_name(call.namespace, call.name)
                call.namespace = ""
        kept.append([at, *parts])
    return Plain(copy, names, kept, told.told(), custom)


def short_name(namespace: str, name: str) -> str:
    """Return a name that every API takes for a tool, the same each time; a long one ends in a digest of itself."""
    whole = f"{namespace}__{name}" if namespace else name
    plain = _FOREIGN.sub("_", whole)
    if len(plain) <= _MOST_CHARACTERS:
        return plain
    digest = hashlib.blake2b(whole.encode(), digest_size=4).hexdigest()
    return f"{plain[: _MOST_CHARACTERS - 9]}_{digest}"


def _describe(path: str, tool: pb.Tool, told: Warnings) -> None:
    """Put what a namespace says of itself into the description of its first tool; what else it says is told."""
    about = json_text.caller_extra(tool.namespace_json, "namespace_json")
    said = about.pop("description", None)
    if isinstance(said, str) and said:
        tool.description = f"{said}\n\n{tool.description}" if tool.description else said
    told.add_all(about, "This model has no place for the field.", f"{path}.")


def _rename_tools(request: pb.CompletionRequest) -> dict[str, Name]:
    """Give each tool a name that is its own everywhere; return the changed ones by their new names."""
    names: dict[str, Name] = {}
    by_name: dict[str, str] = {}
    for tool in request.tools:
        if tool.kind == pb.TOOL_KIND_HOSTED:
            continue
        short = short_name(tool.namespace, tool.name)
        if short != tool.name:
            names[short] = Name(tool.namespace, tool.name)
        by_name.setdefault(tool.name, short)
        tool.name, tool.namespace = short, ""
        tool.ClearField("namespace_json")
        tool.ClearField("declared_in")
    choice = request.tool_choice
    if choice.name in by_name:
        choice.name = by_name[choice.name]
    if choice.allowed_names:
        choice.allowed_names[:] = [by_name.get(name, name) for name in choice.allowed_names]
    return names


def _stays(part: pb.Part, role: pb.Role.ValueType, where: Callable[[], str], told: Warnings) -> bool:
    """Tell whether a part goes on to another upstream; what is left out is told, unless it is carried elsewhere."""
    if part.HasField("item") and part.item.extra_json:
        extra = json_text.caller_extra(part.item.extra_json, "extra_json")
        told.add_all(extra, "This model has no place for the field.", "" if told.full else f"{where()}.")
    if not part.HasField("native") or part.native.dialect != _DIALECT:
        return True
    kind = part.native.type
    if kind == "additional_tools":
        return False
    if (role == pb.ROLE_ASSISTANT and is_item(kind)) or (role == pb.ROLE_TOOL and kind.endswith(_RECORDS)):
        told.add("" if told.full else where(), "What a hosted tool did earlier is not told to this model.")
        return False
    param = where()
    raise GatewayError(
        errors_pb2.ERROR_REASON_UNSUPPORTED_PARAMETER,
        f"This model does not take {'items' if role == pb.ROLE_TOOL else 'content'} of the type {kind}.",
        param=param,
        metadata={"param": param},
        origin="caller",
    )


def _caller_path(places: Places | None, plain: Plain, path: str) -> str:
    """Return a path of the simplified request as one of the caller's own; only Responses has other ones, `places`."""
    if places is None:
        return path
    found = _PATH.match(path)
    if found is None:
        return _NAMES.get(path, path)
    index, rest = int(found[2]), path[found.end() :]
    if found[1] == "tools":
        return places.of_tool(index) + rest
    if index >= len(plain.kept):
        return path
    at, *parts = plain.kept[index]
    within = None if found[3] is None or int(found[3]) >= len(parts) else parts[int(found[3])]
    return places.of(at, within) + rest
