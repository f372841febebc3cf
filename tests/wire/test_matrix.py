"""N dialects times M providers: whatever a caller says is carried to the upstream, or named in a warning or a refusal.

Every recorded request of every dialect goes through the codec of every wire format. Each single thing in it is then
taken out: where that changes neither what is sent nor what the caller is told, it was dropped without a word. Fixtures
and wire formats are found, not listed: a new one of either is tested with all of the other.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import text_format
from google.protobuf.message import Message

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import completion_pb2 as pb
from tokendance.gateway.v1 import errors_pb2
from tokendance_server.providers import Codec
from tokendance_server.providers.wire_formats import WIRE_FORMATS

DIALECTS = Path(__file__).parent / "dialects"
REQUESTS = sorted(f"{path.parts[-3]}/{path.stem}" for path in DIALECTS.glob("*/requests/*.txtpb"))

Step = tuple[str, int | str | None]
"""A field, and the place in it where it has several."""
Place = tuple[Step, ...]
Outcome = tuple[str, bytes, tuple[str, ...]]
"""The refused field or nothing, what is sent, and the fields that warnings name."""

# The gateway's own, or what says no more than its absence would.
_FOR_NOBODY_UPSTREAM = frozenset(
    {
        ("model",),  # the route has another name for it
        ("dialect",),  # how to read the rest
        ("include_usage",),  # usage is always asked for
        ("metadata",),  # kept with the usage record
        ("audio", "voice_json"),  # of use only with the modality, which is looked at
        ("audio", "format"),
        ("messages", "id"),
        ("messages", "parts", "tool_call", "item_id"),
        ("messages", "parts", "tool_call", "signature"),  # of use to the family only that gave it
        ("messages", "parts", "tool_result", "item_id"),
        ("messages", "parts", "tool_result", "kind"),  # that of its call
        ("messages", "parts", "tool_result", "name"),  # that of its call
        ("messages", "parts", "reasoning", "item_id"),
        ("messages", "parts", "item", "id"),
        ("messages", "parts", "item", "status"),
        ("messages", "parts", "item", "phase"),  # what an agent shows, not what the model reads
        ("messages", "parts", "cache_breakpoint", "ttl"),  # how long a cache lasts changes no answer
        ("tools", "cache_breakpoint", "ttl"),
        ("messages", "parts", "native", "dialect"),  # said again in the part's own words
        ("messages", "parts", "native", "type"),
        ("messages", "parts", "text", "citations", "cited_text"),
        ("messages", "parts", "file", "filename"),  # what it is called says nothing of what is in it
        ("response_format", "name"),  # a label for whoever reads the caller's code
        ("response_format", "description"),
        ("response_format", "strict"),  # more than a schema that is kept cannot be
    }
)
# What an upstream does anyway, or what is the default of the canonical form.
_DEFAULTS: dict[tuple[str, ...], tuple[Any, ...]] = {
    ("parallel_tool_calls",): (True,),
    ("choice_count",): (1,),
    ("modalities",): (pb.MODALITY_TEXT,),
    ("response_format", "kind"): (pb.RESPONSE_FORMAT_KIND_TEXT,),
    ("tool_choice", "mode"): (pb.TOOL_CHOICE_MODE_AUTO,),
    ("tool_choice", "kind"): (pb.TOOL_KIND_FUNCTION,),
    ("tools", "kind"): (pb.TOOL_KIND_FUNCTION,),
    ("tools", "parameters_json"): ('{"type":"object","properties":{}}', '{"type":"object"}'),
    ("tools", "strict"): (False,),
    ("tools", "name"): ("web_search_20250305", "web_search", "mcp"),  # that of a hosted tool is in its own words too
    ("reasoning", "adaptive"): (True,),
    ("messages", "role"): (pb.ROLE_USER, pb.ROLE_TOOL),
    ("messages", "parts", "tool_call", "kind"): (pb.TOOL_KIND_FUNCTION,),
    ("messages", "parts", "tool_call", "arguments_json"): ("{}",),
    ("messages", "parts", "image", "detail"): ("auto",),
    ("messages", "parts", "image", "media_type"): ("image/png",),
    ("messages", "parts", "file", "media_type"): ("application/pdf", "text/csv", "text/plain"),  # text in any case
}
# What one wire format gives whether it is asked for or not.
_GIVEN_ANYWAY: dict[str, frozenset[tuple[str, ...]]] = {
    # Its thoughts are signed.
    "anthropic": frozenset({("reasoning", "include_encrypted")}),
    # Its thoughts are summaries, and signed.
    "gemini": frozenset({("reasoning", "summary"), ("reasoning", "include_encrypted")}),
}
_REFUSALS = (errors_pb2.ERROR_REASON_UNSUPPORTED_PARAMETER, errors_pb2.ERROR_REASON_INVALID_REQUEST)
_MOST_REFUSALS = 20


def read(name: str) -> pb.CompletionRequest:
    """A recorded request in the canonical form."""
    dialect, _, case = name.partition("/")
    return text_format.Parse((DIALECTS / dialect / "requests" / f"{case}.txtpb").read_text(), pb.CompletionRequest())


def outcome(codec: Codec, request: pb.CompletionRequest) -> Outcome:
    """What becomes of a request."""
    try:
        warnings = codec.warnings(request)
        asked = codec.encode_completion(request, "upstream", stream=True)
    except GatewayError as refusal:
        if refusal.reason not in _REFUSALS or not refusal.param or refusal.origin != "caller":
            pytest.fail(f"a refusal must name the caller's field: {refusal!r}")
        return refusal.param, b"", ()
    assert all(warning.field and warning.why for warning in warnings)
    headers = "".join(f"{header}: {value}\n" for header, value in asked.headers)
    return "", headers.encode() + asked.path.encode() + asked.body, tuple(warning.field for warning in warnings)


def places(message: Message, before: Place = ()) -> Iterator[Place]:
    """Every single thing that is said in a message: its scalars, entries of its lists and maps, empty marks."""
    for field, value in message.ListFields():
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            yield from ((*before, (field.name, key)) for key in value)
        elif field.is_repeated:
            for index, one in enumerate(value):
                here = (*before, (field.name, index))
                yield from places(one, here) if isinstance(one, Message) else [here]
        elif isinstance(value, Message) and value.ListFields():
            yield from places(value, (*before, (field.name, None)))
        else:
            yield (*before, (field.name, None))


def without(request: pb.CompletionRequest, place: Place) -> pb.CompletionRequest:
    """The same request with one thing less."""
    changed = pb.CompletionRequest()
    changed.CopyFrom(request)
    into: Any = changed
    for name, index in place[:-1]:
        into = getattr(into, name) if index is None else getattr(into, name)[index]
    name, index = place[-1]
    if index is None:
        into.ClearField(name)
    else:
        del getattr(into, name)[index]
    return changed


def value_at(request: pb.CompletionRequest, place: Place) -> Any:
    """What stands at a place."""
    found: Any = request
    for name, index in place:
        found = getattr(found, name) if index is None else getattr(found, name)[index]
    return found


def kind_of(place: Place) -> tuple[str, ...]:
    """A place without its numbers; what is in the result of a tool is content like any other."""
    names = tuple(name for name, _ in place)
    return ("messages", *names[3:]) if names[:3] == ("messages", "parts", "tool_result") and len(names) > 4 else names


def is_nothing(request: pb.CompletionRequest, place: Place) -> bool:
    """Tell whether nobody upstream would miss what stands here."""
    kind = kind_of(place)
    if kind in _FOR_NOBODY_UPSTREAM:
        return True
    return value_at(request, place) in _DEFAULTS.get(kind, ())


def told(place: Place) -> str:
    """A place, for people."""
    return ".".join(name if index is None else f"{name}[{index}]" for name, index in place)


def let_pass(codec: Codec, request: pb.CompletionRequest) -> pb.CompletionRequest:
    """Take out whole what is refused, a part or an entry at a time, until the rest passes."""
    for _ in range(_MOST_REFUSALS):
        refused = outcome(codec, request)[0]
        if not refused:
            return request
        for place in wholes(request):
            candidate = without(request, place)
            if outcome(codec, candidate)[0] != refused:
                request = candidate
                break
        else:
            pytest.fail(f"nothing that could be taken out is what {refused!r} means")
    pytest.fail("too much is refused")


def wholes(request: pb.CompletionRequest) -> Iterator[Place]:
    """What may be taken out whole: parts of messages and tools before anything else."""
    for at, message in enumerate(request.messages):
        yield from ((("messages", at), ("parts", part_at)) for part_at in reversed(range(len(message.parts))))
    yield from ((("tools", at),) for at in reversed(range(len(request.tools))))
    yield from (((name, None),) for name in ("audio", "logprobs", "response_format") if request.HasField(name))
    yield from ((("sampling", None), ("stop", None)), (("modalities", None),))
    yield from places(request)


@pytest.mark.parametrize("kind", [*WIRE_FORMATS, "openai responses_only", "openai no_custom"])
@pytest.mark.parametrize("name", REQUESTS)
def test_nothing_that_a_caller_says_is_dropped_without_a_word(name: str, kind: str) -> None:
    """Carried, warned of by name, or refused by name."""
    wire_format, *capabilities = kind.split()
    codec = WIRE_FORMATS[wire_format](capabilities, mint=lambda: "call_minted")
    request = let_pass(codec, read(name))
    whole = outcome(codec, request)
    dropped = [
        told(place)
        for place in places(request)
        if not is_nothing(request, place)
        and kind_of(place) not in _GIVEN_ANYWAY.get(kind, ())
        and outcome(codec, without(request, place)) == whole
        and not is_warned_of(codec, request, place, whole)
    ]
    assert dropped == []


def is_warned_of(codec: Codec, request: pb.CompletionRequest, place: Place, whole: Outcome) -> bool:
    """Tell whether something around a place is left out whole, and named: then nothing in it is dropped in silence."""
    for length in range(1, len(place)):
        refused, sent, warned = outcome(codec, without(request, place[:length]))
        if not refused and sent == whole[1] and len(warned) < len(whole[2]):
            return True
    return False


def test_the_matrix_has_every_dialect_and_every_wire_format() -> None:
    """Both are found by themselves; this says when one of them is not."""
    assert {name.partition("/")[0] for name in REQUESTS} >= {"grpc", "openai_chat"}
    assert set(WIRE_FORMATS) >= {"openai", "azure-openai", "gemini", "anthropic"}
