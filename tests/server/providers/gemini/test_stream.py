"""Streams that do not end well. What others mean is recorded under tests/wire."""

import pytest

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import completion_pb2 as pb
from tokendance.gateway.v1 import errors_pb2
from tokendance_server.providers.gemini import GeminiCodec

TEXT = b'data: {"candidates":[{"content":{"parts":[{"text":"Hello"}]}}]}\n\n'
END = b'data: {"candidates":[{"finishReason":"STOP"}]}\n\n'
BARE = (
    b'[{\n  "error": {\n    "code": 429,\n    "status": "RESOURCE_EXHAUSTED",\n    "details": [\n'
    b'{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "34s"}]\n  }\n}]\n'
)


def decode(*packets: bytes) -> tuple[list[str], GatewayError | None]:
    """The kinds of the events, and the error at the end."""
    decoder = GeminiCodec().stream_decoder(pb.CompletionRequest())
    events: list[pb.CompletionEvent] = []
    try:
        for packet in packets:
            events += decoder.feed(packet)
        events += decoder.close()
    except GatewayError as error:
        return [event.WhichOneof("event") or "" for event in events], error
    return [event.WhichOneof("event") or "" for event in events], None


def test_a_stream_without_a_finish_reason_was_cut() -> None:
    """The end of the body is no end of the answer; upstream's own client would not notice."""
    kinds, error = decode(TEXT)
    assert kinds == ["started", "text"]
    assert error is not None
    assert error.reason == errors_pb2.ERROR_REASON_STREAM_INTERRUPTED


@pytest.mark.parametrize("word", ["MALFORMED_FUNCTION_CALL", "MISSING_THOUGHT_SIGNATURE", "OTHER", "CONTINUATION"])
def test_a_failure_as_finish_reason_is_one(word: str) -> None:
    """Sent again, another answer may come."""
    _, error = decode(TEXT, END.replace(b"STOP", word.encode()))
    assert error is not None
    assert error.reason == errors_pb2.ERROR_REASON_STREAM_INTERRUPTED


@pytest.mark.parametrize("before", [b"", TEXT])
def test_a_bare_document_in_the_middle_is_read(before: bytes) -> None:
    """However it is split, and its wait with it."""
    wire = before + BARE
    for at in range(len(wire)):
        kinds, error = decode(wire[:at], wire[at:])
        assert kinds == (["started", "text"] if before else [])
        assert error is not None
        assert (error.reason, error.retry_after_s) == (errors_pb2.ERROR_REASON_PROVIDER_RATE_LIMITED, 34)


def test_a_bare_document_that_is_cut_is_a_cut_stream() -> None:
    """Nothing more can be known of it."""
    _, error = decode(TEXT, BARE[:20])
    assert error is not None
    assert error.reason == errors_pb2.ERROR_REASON_STREAM_INTERRUPTED


def test_an_error_as_an_event_comes_after_what_was_said_before() -> None:
    """In one packet with it, too."""
    told = b'data: {"error":{"code":503,"message":"canary"}}\n\n'
    kinds, error = decode(TEXT + told)
    assert kinds == ["started", "text"]
    assert error is not None
    assert error.reason == errors_pb2.ERROR_REASON_PROVIDER_ERROR


@pytest.mark.parametrize("wire", [b"", b"data: [1]\n\n", b"data: nothing\n\n", b'data: {"usageMetadata":{}}\n\n'])
def test_what_is_no_answer_is_a_failure_before_its_beginning(wire: bytes) -> None:
    """So that another route can be taken."""
    kinds, error = decode(wire)
    assert kinds == []
    assert error is not None
    assert error.reason == errors_pb2.ERROR_REASON_PROVIDER_ERROR


def test_a_part_that_nobody_knows_does_no_harm() -> None:
    """Nor do parts and candidates that are none, and counts that cannot be."""
    odd = b'data: {"candidates":[1,{"content":{"parts":[5,{},{"thoughtSignature":"!"}]}}],"usageMetadata":[]}\n\n'
    assert decode(odd, TEXT, END) == (["started", "text", "choice_finished", "finished"], None)
