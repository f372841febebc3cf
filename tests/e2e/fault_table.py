"""What a client sees of each fault of the upstream: one row for each form, the same over REST and gRPC.

The statuses are written out here and not read from the product's own table: they are what clients build on.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

SENTENCE = "The quick brown fox jumps over the lazy dog."


@dataclass(frozen=True)
class Failure:
    """An error. `text` is what came before it in a stream; None: nothing did, and the status is the error's own."""

    code: str
    http: int
    grpc: str
    type: str
    retry_after: tuple[int, ...] = ()
    text: str | None = None


@dataclass(frozen=True)
class Answer:
    """An answer that came to its end. `estimated` tells that the upstream's counts could not be believed."""

    text: str = SENTENCE
    finish: str = "stop"
    prompt_tokens: int = 2
    completion_tokens: int = 9
    estimated: bool = False
    reasoning: str = ""


Outcome = Failure | Answer


def midway(failure: Failure, text: str = "The quick") -> Failure:
    """The failure after a part of the answer; the status of success has gone out by then."""
    return replace(failure, text=text)


BROKEN = Failure("provider_error", 502, "UNAVAILABLE", "server_error")
UNAVAILABLE = Failure("provider_unavailable", 503, "UNAVAILABLE", "server_error", retry_after=(1,))
TIMEOUT = Failure("provider_timeout", 504, "UNAVAILABLE", "server_error")
REJECTED = Failure("provider_rejected", 400, "INVALID_ARGUMENT", "invalid_request_error")
LIMITED = Failure("provider_rate_limited", 429, "RESOURCE_EXHAUSTED", "rate_limit_error", retry_after=(1,))
FILTERED = Failure("content_filtered", 400, "INVALID_ARGUMENT", "invalid_request_error")
TOO_LONG = Failure("context_length_exceeded", 400, "INVALID_ARGUMENT", "invalid_request_error")
TOO_LARGE = Failure("request_too_large", 413, "RESOURCE_EXHAUSTED", "invalid_request_error")
CUT = Failure("stream_interrupted", 502, "UNAVAILABLE", "server_error")

GOOD = Answer()
COUNTED_BY_US = Answer(completion_tokens=11, estimated=True)
UMLAUTS = Answer(text="Grüße, 世界! 🌍 naïve café — ünïcödé 🚀 done.")
LINE_SEPARATORS = Answer(text="One\u2028two\u2029three\u0085four.", completion_tokens=3)
TALKATIVE = Answer(text=" ".join([SENTENCE] * 4)[: 3 * 45 + len("The quick")], completion_tokens=29)
THOUGHTS = "Let me think about that for a moment."
THOUGHTFUL = Answer(reasoning=THOUGHTS, completion_tokens=17)
THINKING_ALOUD = Answer(text=f"<think>{THOUGHTS}</think>{SENTENCE}", completion_tokens=17)


def both(outcome: Outcome) -> tuple[Outcome, Outcome]:
    """The same for an answer in one message and for a stream."""
    return outcome, outcome


# model name -> (answer in one message, stream)
FAULTS: dict[str, tuple[Outcome, Outcome]] = {
    "fault:status:code=400": both(REJECTED),
    "fault:status:code=401": both(UNAVAILABLE),
    "fault:status:code=402": both(UNAVAILABLE),
    "fault:status:code=403": both(UNAVAILABLE),
    "fault:status:code=404": both(REJECTED),
    "fault:status:code=408": both(TIMEOUT),
    "fault:status:code=413": both(TOO_LARGE),
    "fault:status:code=422": both(REJECTED),
    "fault:status:code=429": both(LIMITED),
    "fault:status:retry-after=7": both(replace(LIMITED, retry_after=(7,))),
    "fault:status:retry-after=-1": both(LIMITED),
    "fault:status:retry-after=1e9": both(replace(LIMITED, retry_after=(60,))),
    "fault:status:retry-after=soon": both(LIMITED),
    "fault:status:retry-after=date": both(replace(LIMITED, retry_after=(1, 2))),
    "fault:status:reason=insufficient_quota": both(UNAVAILABLE),
    "fault:status:code=400:reason=context_length_exceeded": both(TOO_LONG),
    "fault:status:code=400:reason=content_filter": both(FILTERED),
    "fault:status:code=500": both(BROKEN),
    "fault:status:code=503": both(BROKEN),
    "fault:status:code=529": both(BROKEN),
    "fault:status:code=500:envelope=flat": both(BROKEN),
    "fault:status:code=500:envelope=text": both(BROKEN),
    "fault:status:code=500:envelope=code-text": both(BROKEN),
    "fault:status:code=500:envelope=detail": both(BROKEN),
    "fault:status:code=500:envelope=detail-list": both(BROKEN),
    "fault:status:code=500:envelope=message": both(BROKEN),
    "fault:status:code=500:envelope=html": both(BROKEN),
    "fault:status:code=500:envelope=empty": both(BROKEN),
    "fault:status:code=400:envelope=detail-list": both(REJECTED),
    "fault:fail-first:n=1000000": both(BROKEN),
    "fault:flaky:every=1": both(BROKEN),
    "fault:reset": both(BROKEN),
    "fault:reset-after:n=0": (BROKEN, CUT),
    "fault:reset-after": (BROKEN, midway(CUT)),
    "fault:stall": both(TIMEOUT),
    "fault:stall-after:n=0": both(TIMEOUT),
    "fault:stall-after": (TIMEOUT, midway(TIMEOUT)),
    "fault:cut:n=0": (BROKEN, CUT),
    "fault:cut": (BROKEN, midway(CUT)),
    "fault:cut-clean": (BROKEN, midway(CUT)),
    "fault:truncated": (BROKEN, GOOD),
    "fault:malformed-sse": (BROKEN, midway(BROKEN)),
    "fault:malformed-json:form=text": (BROKEN, midway(BROKEN)),
    "fault:malformed-json:form=bad-utf8": (BROKEN, midway(BROKEN)),
    "fault:malformed-json:form=deep": (BROKEN, midway(BROKEN)),
    "fault:malformed-json:form=array": (BROKEN, midway(BROKEN)),
    "fault:malformed-json:form=null": (BROKEN, midway(BROKEN)),
    "fault:malformed-json:form=string": (BROKEN, midway(BROKEN)),
    "fault:huge-line": both(BROKEN),
    "fault:huge-headers": both(BROKEN),
    "fault:gzip-bomb": both(BROKEN),
    "fault:slow-headers": both(TIMEOUT),
    "fault:slow-tokens:gap=0.05": both(GOOD),
    "fault:slow-tokens": both(TIMEOUT),
    "fault:drip": both(GOOD),
    "fault:html": both(BROKEN),
    "fault:html:code=200": both(BROKEN),
    "fault:wrong-type": both(BROKEN),
    "fault:wrong-type:as=text": both(BROKEN),
    "fault:error-body": both(BROKEN),
    "fault:error-body:envelope=flat": both(BROKEN),
    "fault:error-body:envelope=text": both(BROKEN),
    "fault:error-body:envelope=detail": both(BROKEN),
    "fault:error-event": (BROKEN, midway(BROKEN)),
    "fault:error-event:n=0": both(BROKEN),
    "fault:error-event:form=done": (BROKEN, midway(BROKEN)),
    "fault:error-event:form=named": (BROKEN, midway(BROKEN)),
    "fault:error-event:form=named-flat": (BROKEN, midway(BROKEN)),
    "fault:error-event:form=flat": (BROKEN, midway(BROKEN)),
    "fault:error-event:form=field": (BROKEN, midway(BROKEN)),
    "fault:error-event:form=text": (BROKEN, midway(BROKEN)),
    "fault:error-event:form=groq": (BROKEN, midway(BROKEN)),
    "fault:error-event:form=router": (BROKEN, midway(BROKEN)),
    "fault:error-event:form=empty": (BROKEN, midway(CUT)),
    "fault:empty": both(BROKEN),
    "fault:redirect": both(BROKEN),
    "fault:redirect:code=307": both(BROKEN),
    "fault:not-http": both(BROKEN),
    "fault:reset-on-reuse": both(GOOD),
    "fault:usage-missing": both(COUNTED_BY_US),
    "fault:usage-negative": both(COUNTED_BY_US),
    "fault:usage-twice": both(GOOD),
    "fault:usage-absurd": both(COUNTED_BY_US),
    "fault:usage-absurd:value=9223372036854775808": both(COUNTED_BY_US),
    "fault:usage-absurd:value=NaN": both(COUNTED_BY_US),
    "fault:usage-absurd:value=text": both(COUNTED_BY_US),
    "fault:usage-absurd:value=null": both(COUNTED_BY_US),
    "fault:usage-float": both(COUNTED_BY_US),
    "fault:usage-place": both(GOOD),
    "fault:usage-place:at=choice": both(GOOD),
    "fault:usage-place:at=groq": both(GOOD),
    "fault:usage-place:at=every": both(GOOD),
    "fault:no-done": both(GOOD),
    "fault:no-finish": both(GOOD),
    "fault:finish": both(GOOD),
    "fault:finish:reason=length": both(Answer(finish="length")),
    "fault:finish:reason=content_filter": both(Answer(finish="content_filter")),
    "fault:finish:reason=error": (CUT, midway(CUT, SENTENCE)),
    "fault:prelude": both(GOOD),
    "fault:sparse": both(GOOD),
    "fault:crlf": both(GOOD),
    "fault:crlf:ends=cr": both(GOOD),
    "fault:crlf:ends=mix": both(GOOD),
    "fault:comments": both(GOOD),
    "fault:split-utf8": both(UMLAUTS),
    "fault:framing": both(GOOD),
    "fault:framing:form=no-space": both(GOOD),
    "fault:framing:form=two-lines": both(GOOD),
    "fault:framing:form=ids": both(GOOD),
    "fault:framing:form=named": both(GOOD),
    "fault:framing:form=retry": both(GOOD),
    "fault:framing:form=ping": both(GOOD),
    "fault:framing:form=empty-data": both(GOOD),
    "fault:framing:form=no-end": both(GOOD),
    "fault:framing:form=u2028": both(LINE_SEPARATORS),
    "fault:more-tokens": both(TALKATIVE),
    "fault:reasoning": both(THOUGHTFUL),
    "fault:reasoning:field=reasoning": both(THOUGHTFUL),
    "fault:reasoning:field=both": both(THOUGHTFUL),
    "fault:reasoning:field=think": both(THINKING_ALOUD),
    # So many bytes that each has a test of its own for the node's memory.
    "fault:huge-body": (BROKEN, midway(BROKEN, "")),
    "refused": both(UNAVAILABLE),
    "nameless": both(UNAVAILABLE),
    "silent": both(UNAVAILABLE),
}

# Each must come out as two whole calls, whatever way the upstream cuts them up.
TOOL_FAULTS = [
    f"fault:tool-quirks:base=sim-tools-parallel:form={form}"
    for form in (
        *("repeat", "repeat-id", "nulls", "empty-name", "no-id", "late-name", "whole", "object", "interleaved"),
        "finish-stop",
    )
]
# Servers that number no call or all alike can only be served one call at a time.
TOOL_FAULTS += [f"fault:tool-quirks:form={form}" for form in ("no-index", "zero-index", "null-arguments")]
