"""Recorded wire of Messages clients and what it means in the canonical form, one pair of files for each case.

`requests/NAME.json` is what a client sends, `NAME.txtpb` what it means. `answers/NAME.txtpb` and `streams/NAME.txtpb`
are what the gateway has to say, `NAME.json` and `NAME.sse` how it says it.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from google.protobuf import text_format

from tokendance.gateway.v1 import completion_pb2 as pb
from tokendance.gateway.v1 import completions_service_pb2
from tokendance_facade.dialects.messages.answer import encode
from tokendance_facade.dialects.messages.request import decode
from tokendance_facade.dialects.messages.stream import MessagesStreamEncoder
from tokendance_server.providers.anthropic import AnthropicCodec

FOLDER = Path(__file__).parent


def names(kind: str) -> list[str]:
    """The cases of one folder."""
    return sorted(path.stem for path in (FOLDER / kind).glob("*.txtpb"))


def read(kind: str, name: str) -> str:
    """The canonical side of a case."""
    return (FOLDER / kind / f"{name}.txtpb").read_text()


def test_every_recording_has_its_meaning() -> None:
    """No file of the folders stands alone, or a case would silently not be tested."""
    for kind, suffix in (("requests", ".json"), ("answers", ".json"), ("streams", ".sse")):
        assert {path.stem for path in (FOLDER / kind).glob(f"*{suffix}")} == set(names(kind)) != set()


@pytest.mark.parametrize("name", names("requests"))
def test_a_request_means_its_canonical_form(name: str) -> None:
    """Field by field."""
    call = decode((FOLDER / "requests" / f"{name}.json").read_bytes())
    assert call.completion == text_format.Parse(read("requests", name), pb.CompletionRequest())


@pytest.mark.parametrize("name", names("requests"))
def test_a_request_survives_to_an_upstream_of_its_own_dialect(name: str) -> None:
    """What the client sent, unknown fields included, is what the upstream gets."""
    sent = json.loads((FOLDER / "requests" / f"{name}.json").read_bytes())
    call = decode(json.dumps(sent).encode())
    written = json.loads(AnthropicCodec().encode_completion(call.completion, sent["model"], stream=call.stream).body)
    for turn in (*sent["messages"], *written["messages"]):
        content = turn["content"]
        turn["content"] = content[0]["text"] if isinstance(content, list) and len(content) == 1 else content
    assert written == sent


@pytest.mark.parametrize("name", names("answers"))
def test_an_answer_is_written_field_by_field(name: str) -> None:
    """The document is what is recorded."""
    answer = text_format.Parse(read("answers", name), pb.Completion())
    assert json.loads(encode(answer)) == json.loads((FOLDER / "answers" / f"{name}.json").read_bytes())


@pytest.mark.parametrize("name", names("streams"))
def test_a_stream_is_written_byte_by_byte(name: str) -> None:
    """The same bytes, whether its events come together or one by one."""
    events = text_format.Parse(read("streams", name), completions_service_pb2.StreamCompletionResponse()).events
    wire = (FOLDER / "streams" / f"{name}.sse").read_bytes()
    assert MessagesStreamEncoder().feed(events) == wire
    encoder = MessagesStreamEncoder()
    assert b"".join(encoder.feed([event]) for event in events) == wire
