"""Recorded wire of Responses clients and what it means in the canonical form, one pair of files for each case.

`requests/NAME.json` is what a client sends, `NAME.txtpb` what it means. `answers/NAME.txtpb` and `streams/NAME.txtpb`
are what the gateway has to say, `NAME.json` and `NAME.sse` how it says it. The requests are held against every
upstream in tests/wire/test_matrix.py, too.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from google.protobuf import text_format
from tests.open_responses import check_response, read_events

from tokendance.gateway.v1 import completion_pb2 as pb
from tokendance.gateway.v1 import completions_service_pb2
from tokendance_facade.dialects.responses.answer import encode
from tokendance_facade.dialects.responses.request import decode
from tokendance_facade.dialects.responses.stream import ResponsesStreamEncoder

FOLDER = Path(__file__).parent
NOW = 1_700_000_009
CALL = decode(b'{"model": "m", "input": "Hi", "stream": true}')


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


@pytest.mark.parametrize("name", names("answers"))
def test_an_answer_is_written_field_by_field(name: str) -> None:
    """The document is what is recorded, and has what the specification requires."""
    answer = text_format.Parse(read("answers", name), pb.Completion())
    document = json.loads(encode(answer, CALL.settings, now=NOW))
    assert document == json.loads((FOLDER / "answers" / f"{name}.json").read_bytes())
    check_response(document)


@pytest.mark.parametrize("name", names("streams"))
def test_a_stream_is_written_byte_by_byte(name: str) -> None:
    """The same bytes, whether its events come together or one by one."""
    events = text_format.Parse(read("streams", name), completions_service_pb2.StreamCompletionResponse()).events
    wire = (FOLDER / "streams" / f"{name}.sse").read_bytes()
    read_events(wire.decode())
    assert _encoder().feed(events) == wire
    encoder = _encoder()
    assert b"".join(encoder.feed([event]) for event in events) == wire


def _encoder() -> ResponsesStreamEncoder:
    return ResponsesStreamEncoder(CALL, spare_id="resp_spare", now=lambda: NOW)
