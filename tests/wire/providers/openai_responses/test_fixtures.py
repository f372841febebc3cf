"""Recorded wire of servers that speak Responses and what it means in the canonical form, one pair of files a case.

`streams/NAME.sse` and `answers/NAME.json` are what a server sends; `NAME.txtpb` is what it means. `requests/NAME.txtpb`
is what a caller asks; `NAME.json` is the body that goes upstream.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from google.protobuf import text_format

from tokendance.gateway.v1 import completion_pb2 as pb
from tokendance.gateway.v1 import completions_service_pb2
from tokendance_server.providers.wire_formats import WIRE_FORMATS

FOLDER = Path(__file__).parent
REQUEST = pb.CompletionRequest(
    messages=[pb.Message(role=pb.ROLE_USER, parts=[pb.Part(text=pb.Text(text="Sixteen letters."))])]
)
CODEC = WIRE_FORMATS["openai"](["responses_only"], mint=lambda: "call_minted")


def names(kind: str) -> list[str]:
    """The cases of one folder; a case needs both of its files."""
    return sorted(path.stem for path in (FOLDER / kind).glob("*.txtpb"))


def decoded(*packets: bytes) -> list[pb.CompletionEvent]:
    """The events of a stream that arrives in these packets."""
    decoder = CODEC.stream_decoder(REQUEST)
    events = [event for packet in packets for event in decoder.feed(packet)]
    return [*events, *decoder.close()]


def meant(name: str) -> list[pb.CompletionEvent]:
    """The events that a stream means."""
    text = (FOLDER / "streams" / f"{name}.txtpb").read_text()
    return list(text_format.Parse(text, completions_service_pb2.StreamCompletionResponse()).events)


def test_every_recording_has_its_meaning() -> None:
    """No file of the folders stands alone, or a case would silently not be tested."""
    for kind, suffix in (("streams", ".sse"), ("answers", ".json"), ("requests", ".json")):
        assert {path.stem for path in (FOLDER / kind).glob(f"*{suffix}")} == set(names(kind)) != set()


@pytest.mark.parametrize("name", names("streams"))
def test_a_stream_means_its_events(name: str) -> None:
    """Started first, Finished last and once, and everything between as recorded."""
    events = decoded((FOLDER / "streams" / f"{name}.sse").read_bytes())
    assert events == meant(name)
    kinds = [event.WhichOneof("event") for event in events]
    assert (kinds[0], kinds[-1]) == ("started", "finished")
    assert kinds.count("started") == kinds.count("finished") == 1


@pytest.mark.parametrize("name", names("streams"))
def test_a_stream_means_the_same_however_it_is_split(name: str) -> None:
    """Split in two at any place, and byte by byte, the events are equal."""
    wire = (FOLDER / "streams" / f"{name}.sse").read_bytes()
    expected = meant(name)
    for at in range(0, len(wire), 37):
        assert decoded(wire[:at], wire[at:]) == expected
    assert decoded(*(wire[at : at + 1] for at in range(len(wire)))) == expected


@pytest.mark.parametrize("name", names("answers"))
def test_an_answer_means_its_completion(name: str) -> None:
    """A whole document is read as recorded."""
    text = (FOLDER / "answers" / f"{name}.txtpb").read_text()
    completion = CODEC.decode_completion((FOLDER / "answers" / f"{name}.json").read_bytes(), REQUEST)
    assert completion == text_format.Parse(text, pb.Completion())


@pytest.mark.parametrize("name", names("requests"))
def test_a_request_is_written_field_by_field(name: str) -> None:
    """The body is what is recorded, in its order, and unknown fields never replace a typed one."""
    request = text_format.Parse((FOLDER / "requests" / f"{name}.txtpb").read_text(), pb.CompletionRequest())
    asked = CODEC.encode_completion(request, "upstream-name", stream=True)
    assert asked.path == "/responses"
    assert msgspec.json.format(asked.body, indent=2) + b"\n" == (FOLDER / "requests" / f"{name}.json").read_bytes()
