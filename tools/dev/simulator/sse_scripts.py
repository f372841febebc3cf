"""Faults of the event stream's lines and of the JSON in it, as scripts; does no I/O."""

from __future__ import annotations

from collections.abc import Iterator

from .answer import JSON, LAST_CHUNK, Answer, Script, chunk, whole
from .scripts import Call, opening, paced

# Long enough that the two halves arrive in two reads.
BETWEEN_HALVES_S = 0.002


def rewritten(answer: Answer, events: Iterator[bytes]) -> Script:
    """The stream with other events, at the plan's pace, properly ended."""
    yield from opening(answer)
    yield from paced(answer, events)
    yield LAST_CHUNK


def malformed(answer: Answer, call: Call) -> Script:
    """Broken JSON: in the event after the first n, which goes on afterwards, or in the whole document."""
    form = call.plan.word("form")
    if not answer.stream:
        yield whole(200, JSON, _broken(answer.body, form))
        return
    broken_at = min(call.plan.count("n"), len(answer.events) - 1)

    def events() -> Iterator[bytes]:
        for number, event in enumerate(answer.events):
            name, _, payload = event.rpartition(b"data: ")
            yield name + b"data: " + _broken(payload.rstrip(b"\n"), form) + b"\n\n" if number == broken_at else event

    yield from rewritten(answer, events())


def _broken(payload: bytes, form: str) -> bytes:
    if form == "half":
        return payload[: len(payload) // 2]
    if form == "bad-utf8":
        field = next((name for name in (b'"object":"', b'"type":"') if name in payload), b'"role":"')
        return payload.replace(field, field + b"\xff\xfe", 1)
    if form == "deep":
        return b"[" * 100_000
    return {"text": b"this is no JSON", "array": b"[]", "null": b"null", "string": b'"text"'}[form]


def crlf(answer: Answer, call: Call) -> Script:
    """Other line ends than LF."""
    form = call.plan.word("ends")
    ends = {"crlf": (b"\r\n",), "cr": (b"\r",), "mix": (b"\r\n", b"\n", b"\r")}[form]
    if not answer.stream:
        yield answer.wire
        return
    events = (event.replace(b"\n", ends[at % len(ends)]) for at, event in enumerate(answer.events))
    yield from rewritten(answer, events)


def comments(answer: Answer, call: Call) -> Script:
    """Keep-alive comments before each event; blank lines before a document, as some upstreams send."""
    if not answer.stream:
        yield whole(200, JSON, b"\n\n\n" + answer.body)
        return
    yield from rewritten(answer, (b": OPENROUTER PROCESSING\n\n" + event for event in answer.events))


def split_utf8(answer: Answer, call: Call) -> Script:
    """Characters torn apart: every one of several bytes comes in two chunks and two writes."""
    yield from opening(answer)
    if not answer.chunked:
        yield answer.head
    for part in _torn(b"".join(answer.pieces)):
        yield chunk(part)
        yield BETWEEN_HALVES_S
    yield LAST_CHUNK


def _torn(data: bytes) -> Iterator[bytes]:
    start = 0
    for at in range(1, len(data)):
        if data[at - 1] >= 0xC0:
            yield data[start:at]
            start = at
    yield data[start:]


def framing(answer: Answer, call: Call) -> Script:
    """Lawful but rare forms of the event stream; a document stays as it is."""
    if not answer.stream:
        yield answer.wire
        return
    form = call.plan.word("form")
    events = [_reframed(event, form, number) for number, event in enumerate(answer.events)]
    if form == "bom":
        events[0] = b"\xef\xbb\xbf" + events[0]
    elif form == "no-end":
        events[-1] = events[-1].rstrip(b"\n")
    yield from rewritten(answer, iter(events))


def _reframed(event: bytes, form: str, number: int) -> bytes:
    if form == "no-space":
        return event.replace(b"data: ", b"data:", 1)
    if form == "two-lines":
        return event.replace(b',"', b',\ndata: "', 1)
    if form == "ids":
        return b"id: %d\n" % number + event
    if form == "named":
        return b"event: message\n" + event
    if form == "retry":
        return b"retry: 1000\n" + event
    if form == "ping":
        return b"event: ping\ndata: {}\n\n" + event
    if form == "empty-data":
        return b"data:\n\n" + event
    return event
