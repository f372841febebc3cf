"""Recorded wire of each format and what it means in the canonical form, one pair of files for each case.

In the folder of a format, `streams/NAME.sse` and `answers/NAME.json` are what a server sends; `NAME.txtpb` is what it
means. `requests/NAME.txtpb` is what a caller asks; `NAME.json` is the body that goes upstream.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import pytest
from google.protobuf import text_format

from tokendance.gateway.v1 import completion_pb2 as pb
from tokendance.gateway.v1 import completions_service_pb2
from tokendance_server.providers import Codec
from tokendance_server.providers.wire_formats import WIRE_FORMATS

ASKED = pb.CompletionRequest(
    messages=[pb.Message(role=pb.ROLE_USER, parts=[pb.Part(text=pb.Text(text="Sixteen letters."))])]
)

# Some of Anthropic's answers call a tool of free text, which must have been there.
ASKED_WITH_TOOL = pb.CompletionRequest(
    messages=ASKED.messages, tools=[pb.Tool(kind=pb.TOOL_KIND_CUSTOM, name="apply_patch")]
)


@dataclass(frozen=True)
class Wire:
    """One format: its folder, codec and path, at every how many bytes its streams are split, and what was asked."""

    folder: str
    codec: Codec
    path: str
    split_every: int = 1
    asked: pb.CompletionRequest = field(default_factory=lambda: ASKED)

    def file(self, case: str) -> Path:
        """Return a file of a case, such as `streams/NAME.sse`."""
        return Path(__file__).with_name(self.folder) / case

    def names(self, kind: str) -> list[str]:
        """Return the cases of one kind; a case needs both of its files."""
        return sorted(path.stem for path in self.file(kind).glob("*.txtpb"))

    def decoded(self, *packets: bytes) -> list[pb.CompletionEvent]:
        """Return the events of a stream that arrives in these packets."""
        decoder = self.codec.stream_decoder(self.asked)
        events = [event for packet in packets for event in decoder.feed(packet)]
        return [*events, *decoder.close()]

    def meant(self, name: str) -> list[pb.CompletionEvent]:
        """Return the events that a stream means."""
        text = self.file(f"streams/{name}.txtpb").read_text()
        return list(text_format.Parse(text, completions_service_pb2.StreamCompletionResponse()).events)


def _codec(kind: str, capabilities: Sequence[str] = ()) -> Codec:
    return WIRE_FORMATS[kind](capabilities, mint=lambda: "call_minted")


WIRES = (
    Wire("openai", _codec("openai"), "/chat/completions"),
    Wire("openai_responses", _codec("openai", ["responses_only"]), "/responses", split_every=37),
    Wire("anthropic", _codec("anthropic"), "/messages", split_every=7, asked=ASKED_WITH_TOOL),
    Wire("gemini", _codec("gemini"), "/models/upstream-name:streamGenerateContent?alt=sse"),
)
CASES = {
    kind: [pytest.param(wire, name, id=f"{wire.folder}-{name}") for wire in WIRES for name in wire.names(kind)]
    for kind in ("streams", "answers", "requests")
}


@pytest.mark.parametrize("wire", WIRES, ids=lambda wire: wire.folder)
def test_every_recording_has_its_meaning(wire: Wire) -> None:
    """No file of the folders stands alone, or a case would silently not be tested."""
    for kind, suffix in (("streams", ".sse"), ("answers", ".json"), ("requests", ".json")):
        assert {path.stem for path in wire.file(kind).glob(f"*{suffix}")} == set(wire.names(kind)) != set()


@pytest.mark.parametrize(("wire", "name"), CASES["streams"])
def test_a_stream_means_its_events(wire: Wire, name: str) -> None:
    """Started first, Finished last and once, and everything between as recorded."""
    events = wire.decoded(wire.file(f"streams/{name}.sse").read_bytes())
    assert events == wire.meant(name)
    kinds = [event.WhichOneof("event") for event in events]
    assert (kinds[0], kinds[-1]) == ("started", "finished")
    assert kinds.count("started") == kinds.count("finished") == 1


@pytest.mark.parametrize(("wire", "name"), CASES["streams"])
def test_a_stream_means_the_same_however_it_is_split(wire: Wire, name: str) -> None:
    """Split in two, at many places, and byte by byte, the events are equal."""
    sent = wire.file(f"streams/{name}.sse").read_bytes()
    expected = wire.meant(name)
    for at in range(0, len(sent) + 1, wire.split_every):
        assert wire.decoded(sent[:at], sent[at:]) == expected
    assert wire.decoded(*(sent[at : at + 1] for at in range(len(sent)))) == expected


@pytest.mark.parametrize(("wire", "name"), CASES["answers"])
def test_an_answer_means_its_completion(wire: Wire, name: str) -> None:
    """A whole document is read as recorded."""
    text = wire.file(f"answers/{name}.txtpb").read_text()
    answer = wire.codec.decode_completion(wire.file(f"answers/{name}.json").read_bytes(), wire.asked)
    assert answer == text_format.Parse(text, pb.Completion())


@pytest.mark.parametrize(("wire", "name"), CASES["requests"])
def test_a_request_is_written_field_by_field(wire: Wire, name: str) -> None:
    """The body is what is recorded, in its order, and unknown fields never replace a typed one."""
    request = text_format.Parse(wire.file(f"requests/{name}.txtpb").read_text(), pb.CompletionRequest())
    # Only what has passed here may be written.
    wire.codec.warnings(request)
    asked = wire.codec.encode_completion(request, "upstream-name", stream=True)
    assert asked.path == wire.path
    assert msgspec.json.format(asked.body, indent=2) + b"\n" == wire.file(f"requests/{name}.json").read_bytes()
