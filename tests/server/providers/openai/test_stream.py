"""Streams that do not go as they should; good ones are recorded in tests/wire."""

from typing import Any

import orjson
import pytest

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import completion_pb2 as pb
from tokendance_server.providers.openai import OpenAICodec
from tokendance_server.providers.openai.stream import OpenAIStreamDecoder

DONE = b"data: [DONE]\n\n"


def event(document: Any, name: str = "") -> bytes:
    """One event of a stream."""
    return (f"event: {name}\n" if name else "").encode() + b"data: " + orjson.dumps(document) + b"\n\n"


def chunk(finish: str | None = None, index: int = 0, **delta: Any) -> bytes:
    """One chunk with one choice."""
    return event({"id": "c", "choices": [{"index": index, "delta": delta, "finish_reason": finish}]})


def decoder(event_bytes: int = 4096) -> OpenAIStreamDecoder:
    """A decoder for an empty request."""
    return OpenAICodec(mint=lambda: "call_minted", event_bytes=event_bytes).stream_decoder(pb.CompletionRequest())


def kinds(events: list[pb.CompletionEvent]) -> list[str]:
    """What each event is."""
    return [str(one.WhichOneof("event")) for one in events]


def text(events: list[pb.CompletionEvent]) -> str:
    """The text of all events."""
    return "".join(one.text.text for one in events)


def failure(*packets: bytes) -> tuple[str, str]:
    """The code of a stream that fails, and the text that came before."""
    stream = decoder()
    events: list[pb.CompletionEvent] = []

    def run() -> None:
        for packet in packets:
            events.extend(stream.feed(packet))
        events.extend(stream.close())

    with pytest.raises(GatewayError) as caught:
        run()
    assert caught.value.origin == "provider"
    assert "finished" not in kinds(events)
    return caught.value.code, text(events)


@pytest.mark.parametrize(
    "packets",
    [
        [chunk(content="Half")],
        [chunk(content="Half"), event({"choices": []})],
        [chunk(content="Half"), b'data: {"choices":[{"del'],
        [chunk("stop", content="Half"), chunk(index=1, content="")],
        [chunk("", content="Half")],
    ],
)
def test_an_end_without_finish_is_a_cut(packets: list[bytes]) -> None:
    """Of any choice; the half that came is told first."""
    assert failure(*packets) == ("stream_interrupted", "Half")


@pytest.mark.parametrize("packets", [[], [b": comment\n\n"], [DONE], [event({"id": "c", "choices": []}), DONE]])
def test_no_answer_at_all_is_an_error(packets: list[bytes]) -> None:
    """Before anything was told, so that another upstream may still be asked."""
    assert failure(*packets) == ("provider_error", "")


def test_an_end_after_every_finish_is_good() -> None:
    """Some servers never say that they are done."""
    stream = decoder()
    assert kinds(stream.feed(chunk("stop", content="Whole"))) == ["started", "text", "choice_finished"]
    assert kinds(stream.close()) == ["finished"]
    assert stream.done
    assert stream.close() == []


def test_done_ends_what_no_chunk_has_ended() -> None:
    """Some servers never give a reason."""
    events = decoder().feed(chunk(content="Whole") + DONE)
    assert kinds(events) == ["started", "text", "choice_finished", "finished"]
    assert events[2].choice_finished.finish_reason == pb.FINISH_REASON_STOP


def test_nothing_follows_the_end() -> None:
    """Chunks after the last are ignored, in the same packet and in later ones."""
    stream = decoder()
    events = stream.feed(chunk("stop", content="A") + DONE + chunk(content="B"))
    assert kinds(events)[-1] == "finished"
    assert stream.feed(chunk(content="C")) == []
    assert stream.close() == []


ERRORS = {
    "object": event({"error": {"message": "m", "type": "server_error"}}),
    "text": event({"error": "m"}),
    "flat": event({"object": "error", "message": "m", "code": 500}),
    "named": event({"error": {"message": "m"}}, "error"),
    "named and flat": event({"message": "m"}, "error"),
    "named and no JSON": b"event: error\ndata: oops\n\n",
    "field": b'error: {"message":"m"}\n\n',
    "with choices": event({"error": {"code": 502}, "choices": [{"index": 0, "delta": {"content": "x"}}]}),
    "in a server's field": event({"choices": [], "x_groq": {"error": "m"}}),
    "half a document": b'data: {"choices":[{"index":0,\n\n',
    "an array": b"data: []\n\n",
    "a null": b"data: null\n\n",
    "a text": b'data: "x"\n\n',
    "bad UTF-8": b'data: {"choices":[{"index":0,"delta":{"content":"\xff"}}]}\n\n',
    "depth": b"data: " + b"[" * 3000 + b"\n\n",
    "a huge event": chunk(content="x" * 5000),
    "a call without a name": chunk("tool_calls", tool_calls=[{"index": 0, "id": "a"}]),
}


@pytest.mark.parametrize("name", ERRORS)
def test_an_error_comes_after_what_came_before_it(name: str) -> None:
    """In the same packet or in the next."""
    first = chunk(content="Half")
    assert failure(first, ERRORS[name]) == ("provider_error", "Half")
    if name != "a huge event":  # the splitter refuses the packet whole
        assert failure(first + ERRORS[name]) == ("provider_error", "Half")


@pytest.mark.parametrize("finish", ["error", "abort"])
def test_a_failure_as_finish_reason_is_a_cut(finish: str) -> None:
    """The text of that very chunk still counts."""
    assert failure(chunk(finish, content="Half")) == ("stream_interrupted", "Half")


@pytest.mark.parametrize(
    "noise",
    [
        b": keep-alive\n\n",
        b"data:\n\n",
        b"data:   \n\n",
        b"event: ping\ndata: {}\n\n",
        b"event: ping\ndata: now\n\n",
        event({"choices": None}),
        event({"choices": []}),
        event({"choices": [None]}),
        event({"choices": [{"index": 0}]}),
        event({"choices": [{"index": 0, "delta": None}]}),
        event({"choices": [{"index": 0, "delta": {}, "finish_reason": ""}]}),
        event({}),
        event({"error": None, "choices": []}),
    ],
)
def test_noise_means_nothing(noise: bytes) -> None:
    """Between chunks it changes no event."""
    plain = decoder()
    noisy = decoder()
    expected = plain.feed(chunk(content="A") + chunk("stop", content="B") + DONE)
    assert noisy.feed(chunk(content="A") + noise + chunk("stop", content="B") + noise + DONE) == expected


def test_a_chunk_is_read_the_same_in_full_and_fast() -> None:
    """The fast path is only faster: an unknown empty field sends a chunk the long way, and nothing else changes."""
    deltas: list[dict[str, Any]] = [
        {"content": "Grüße"},
        {"reasoning": "Hm"},
        {"reasoning_content": "Hm", "reasoning": "Hm", "content": "both"},
        {"tool_calls": [{"index": 0, "function": {"arguments": "{}"}}]},
        {"role": "assistant", "content": None, "refusal": None, "tool_calls": [], "function_call": None},
        {"content": ""},
    ]
    fast, full = decoder(), decoder()
    call = {"index": 0, "id": "1", "type": "function", "function": {"name": "f", "arguments": ""}}
    for stream in (fast, full):
        stream.feed(chunk(tool_calls=[call]) + chunk(content="x", index=1))
    for index in (0, 1, 0):
        for delta in deltas:
            if index == 1 and "tool_calls" in delta:
                continue
            assert fast.feed(chunk(index=index, **delta)) == full.feed(chunk(index=index, **delta, unknown=None))
    assert fast.feed(chunk("stop") + chunk("stop", index=1) + DONE) == full.feed(
        chunk("stop") + chunk("stop", index=1) + DONE
    )


def test_what_is_not_known_of_a_text_goes_along() -> None:
    """With the text, or as an event of its own where there is none."""
    events = decoder().feed(chunk(content="A", token_ids=[1]) + chunk(token_ids=[2]))
    assert kinds(events) == ["started", "text", "native"]
    assert events[1].text.extra_json == '{"token_ids":[1]}'
    assert events[2].native.dialect == pb.DIALECT_OPENAI_CHAT
    assert orjson.loads(events[2].native.json) == {"choices": [{"index": 0, "delta": {"token_ids": [2]}}]}


def test_items_are_numbered_as_they_begin() -> None:
    """Reasoning, text and each call are items; text that goes on after a call is still the same one."""
    call = {"index": 0, "id": "1", "function": {"name": "f", "arguments": "{}"}}
    events = decoder().feed(
        chunk(reasoning="Hm") + chunk(content="A") + chunk(tool_calls=[call]) + chunk(content="B") + chunk(refusal="C")
    )
    items = [getattr(one, str(one.WhichOneof("event"))).item for one in events[1:]]
    assert items == [0, 1, 2, 1, 1]


def test_a_second_finish_is_not_told() -> None:
    """Each choice ends once."""
    events = decoder().feed(chunk("stop", content="A") + chunk("length") + DONE)
    assert kinds(events).count("choice_finished") == 1


def test_the_first_name_counts() -> None:
    """Id and model may be missing at first and change later."""
    stream = decoder()
    stream.feed(event({"id": "", "model": None, "choices": []}))
    stream.feed(event({"id": "a", "model": "m", "choices": []}))
    started = stream.feed(event({"id": "b", "model": "n", "choices": [{"index": 0, "delta": {}}]}))[0].started
    assert (started.id, started.model) == ("a", "m")
