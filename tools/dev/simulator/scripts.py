"""Faults of HTTP itself, as scripts of bytes, waits and endings; does no I/O."""

from __future__ import annotations

import email.utils
import itertools
import time
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from .answer import JSON, LAST_CHUNK, SSE, Answer, Finish, Script, chunk, head, whole
from .plan import Plan
from .replies import FILLER_MARK

MEBIBYTE = 1024 * 1024
FILLER = b"a" * 65536

# A reset throws away what the peer has not read yet; the wait lets it read what it is meant to have seen.
BEFORE_RESET_S = 0.03


@dataclass(frozen=True, slots=True)
class Call:
    """What a script may know of the request: its credential, and how many came before with its model name."""

    plan: Plan
    authorization: str
    seen: int


ScriptOf = Callable[[Answer, Call], Script]


def plain(answer: Answer, call: Call) -> Script:
    """The answer as it should be, after its delay and at its pace."""
    yield from opening(answer)
    if answer.chunked:
        yield from paced(answer, answer.pieces)
        yield LAST_CHUNK
    else:
        yield answer.wire


def opening(answer: Answer) -> Script:
    """The delay and, where the body is chunked, the head and the wait for the first byte of the body."""
    plan = answer.plan
    if plan is not None and plan.number("delay"):
        yield plan.number("delay")
    if answer.chunked:
        yield answer.head
        if plan is not None and plan.number("first"):
            yield plan.number("first")


def paced(answer: Answer, pieces: Iterable[bytes]) -> Script:
    """The pieces as chunks, one or a burst of them in a write, with the plan's gap for each of them."""
    gap_s = answer.plan.gap_s if answer.plan is not None else 0.0
    burst = max(1, answer.plan.count("burst")) if answer.plan is not None else 1
    chunks = map(chunk, pieces)
    first = True
    while together := list(itertools.islice(chunks, burst)):
        if gap_s and not first:
            yield gap_s * burst
        first = False
        yield b"".join(together)


def beginning(answer: Answer, count: int) -> Script:
    """The head and the first `count` pieces, chunked; the body is left open."""
    yield from opening(answer)
    if not answer.chunked:
        yield answer.head
    yield from paced(answer, answer.pieces[:count])


def error_of(answer: Answer, call: Call, status: int, reason: str = "auto", extra: bytes = b"") -> bytes:
    """An error response that says the caller's credential, as careless upstreams do."""
    plan = call.plan
    envelope = plan.options.get("envelope", "openai")
    message = f"Simulated error {status}; the request came with Authorization: {call.authorization}"
    content_type, body = answer.error_body(status, reason, message, envelope)
    return whole(status, content_type, body, extra)


def status(answer: Answer, call: Call) -> Script:
    """An HTTP error, with or without Retry-After."""
    retry_after = call.plan.word("retry-after")
    if retry_after == "date":
        retry_after = email.utils.formatdate(time.time() + 2, usegmt=True)
    extra = b"" if retry_after == "none" else f"retry-after: {retry_after}\r\n".encode()
    yield error_of(answer, call, call.plan.count("code"), call.plan.word("reason"), extra)


def fail_first(answer: Answer, call: Call) -> Script:
    """Errors for the first n requests of this model name, then answers."""
    if call.seen < call.plan.count("n"):
        yield error_of(answer, call, call.plan.count("code"))
    else:
        yield from plain(answer, call)


def flaky(answer: Answer, call: Call) -> Script:
    """An error for each k-th request of this model name."""
    if (call.seen + 1) % max(1, call.plan.count("every")) == 0:
        yield error_of(answer, call, call.plan.count("code"))
    else:
        yield from plain(answer, call)


def reset(answer: Answer, call: Call) -> Script:
    """RST in place of an answer."""
    yield Finish.RESET


def reset_after(answer: Answer, call: Call) -> Script:
    """RST after n pieces."""
    yield from beginning(answer, call.plan.count("n"))
    yield BEFORE_RESET_S
    yield Finish.RESET


def stall(answer: Answer, call: Call) -> Script:
    """Nothing, ever."""
    yield Finish.STALL


def stall_after(answer: Answer, call: Call) -> Script:
    """Nothing more after n pieces."""
    yield from beginning(answer, call.plan.count("n"))
    yield Finish.STALL


def cut(answer: Answer, call: Call) -> Script:
    """FIN after n pieces: the chunked body has no end."""
    yield from beginning(answer, call.plan.count("n"))
    yield Finish.CLOSE


def cut_clean(answer: Answer, call: Call) -> Script:
    """A proper end of the body after n pieces."""
    yield from beginning(answer, call.plan.count("n"))
    yield LAST_CHUNK


def truncated(answer: Answer, call: Call) -> Script:
    """A content-length that promises 1,000 bytes more than come."""
    body = b"".join(answer.pieces)
    yield head(200, SSE if answer.stream else JSON, len(body) + 1000)
    yield body
    yield Finish.CLOSE


def slow_headers(answer: Answer, call: Call) -> Script:
    """The head byte by byte."""
    for at in range(len(answer.head)):
        yield answer.head[at : at + 1]
        yield call.plan.number("gap")
    yield from paced(answer, answer.pieces)
    yield LAST_CHUNK


def drip(answer: Answer, call: Call) -> Script:
    """The whole response byte by byte."""
    for at in range(len(answer.wire)):
        yield call.plan.number("gap")
        yield answer.wire[at : at + 1]


def html(answer: Answer, call: Call) -> Script:
    """A page of a proxy in between."""
    _, body = answer.error_body(502, "auto", "", "html")
    yield whole(call.plan.count("code"), "text/html; charset=utf-8", body)


def wrong_type(answer: Answer, call: Call) -> Script:
    """Another kind of body than the one asked for."""
    kind = call.plan.word("as")
    if kind == "other":
        kind = "json" if answer.stream else "sse"
    if kind == "json":
        yield whole(200, JSON, answer.body)
    elif kind == "text":
        yield whole(200, "text/plain; charset=utf-8", b"This is the answer, in plain text.")
    else:
        yield whole(200, SSE, b"".join(answer.events))


def error_body(answer: Answer, call: Call) -> Script:
    """An error under status 200."""
    message = f"Simulated error; the request came with Authorization: {call.authorization}"
    content_type, body = answer.error_body(500, "auto", message, call.plan.word("envelope"))
    yield whole(200, content_type, body)


def empty(answer: Answer, call: Call) -> Script:
    """Status 200 and no body."""
    yield whole(200, SSE if answer.stream else JSON, b"")


def redirect(answer: Answer, call: Call) -> Script:
    """A redirect to the address where clouds keep credentials."""
    yield whole(call.plan.count("code"), JSON, b"", b"location: http://169.254.169.254/latest/meta-data/\r\n")


def huge(answer: Answer, call: Call) -> Script:
    """One text of so many megabytes: one SSE line, or one JSON string."""
    before, _, after = b"".join(answer.pieces).partition(FILLER_MARK.encode())
    yield answer.head
    yield chunk(before)
    for _ in range(call.plan.count("mb") * MEBIBYTE // len(FILLER)):
        yield chunk(FILLER)
    yield chunk(after) + LAST_CHUNK


def huge_body(answer: Answer, call: Call) -> Script:
    """So many megabytes: of small events in a stream, of one JSON document otherwise."""
    if not answer.stream:
        yield from huge(answer, call)
        return
    yield answer.head
    event = answer.events[min(1, len(answer.events) - 1)]
    block = chunk(event * (len(FILLER) // len(event)))
    for _ in range(call.plan.count("mb") * MEBIBYTE // len(FILLER)):
        yield block
    yield chunk(b"".join(answer.events[1:])) + LAST_CHUNK


def huge_headers(answer: Answer, call: Call) -> Script:
    """A head of so many kilobytes."""
    lines = b"".join(b"x-filler-%d: %b\r\n" % (at, b"a" * 1000) for at in range(call.plan.count("kb")))
    body = b"".join(answer.pieces)
    yield whole(200, SSE if answer.stream else JSON, body, lines)


def gzip_bomb(answer: Answer, call: Call) -> Script:
    """A body that inflates to so many megabytes, a thousand times its size.

    A deflate stream may be put together from parts that each end in a full flush, so one compressed mebibyte
    is sent again and again, and no memory is spent on it here.
    """
    before, _, after = b"".join(answer.pieces).partition(FILLER_MARK.encode())
    filler = b"a" * MEBIBYTE
    squeezed = _deflate(filler, zlib.Z_FULL_FLUSH)
    kind = SSE if answer.stream else JSON
    yield head(200, kind, None, b"content-encoding: gzip\r\n")
    yield chunk(b"\x1f\x8b\x08\0\0\0\0\0\0\xff" + _deflate(before, zlib.Z_FULL_FLUSH))
    checksum, size = zlib.crc32(before), len(before)
    for _ in range(call.plan.count("mb")):
        yield chunk(squeezed)
        yield 0.0  # the checksum of each mebibyte takes a moment, which others should not have to wait for
        checksum, size = zlib.crc32(filler, checksum), size + len(filler)
    checksum, size = zlib.crc32(after, checksum), size + len(after)
    trailer = checksum.to_bytes(4, "little") + (size & 0xFFFFFFFF).to_bytes(4, "little")
    yield chunk(_deflate(after, zlib.Z_FINISH) + trailer) + LAST_CHUNK


def _deflate(data: bytes, flush: int) -> bytes:
    squeezer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    return squeezer.compress(data) + squeezer.flush(flush)


def reset_on_reuse(answer: Answer, call: Call) -> Script:
    """An answer, and a connection that dies under the next request."""
    yield from plain(answer, call)
    yield Finish.TRAP


def not_http(answer: Answer, call: Call) -> Script:
    """Another protocol."""
    yield b"SSH-2.0-OpenSSH_9.2\r\n"
    yield Finish.CLOSE
