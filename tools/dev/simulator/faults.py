"""The one table of faults: what each is called, what it takes, what it does, and which script does it."""

from __future__ import annotations

from dataclasses import dataclass

from . import scripts, sse_scripts
from .answer import Answer, Script
from .plan import GENERAL_OPTIONS, PERSONAS, Plan, parse_model
from .scripts import Call, ScriptOf, plain

_ENVELOPE = "envelope=openai|flat|text|code-text|detail|detail-list|message|html|empty"
_BROKEN = "form=half|text|bad-utf8|deep|array|null|string"


@dataclass(frozen=True, slots=True)
class Fault:
    """One row: options as `name=default`, or `name=first|second` where only these are allowed.

    A row without a script is rendered by the dialect, since it lies in the JSON that only the dialect knows.
    """

    name: str
    options: str
    summary: str
    script: ScriptOf | None = None


_ROWS = (
    Fault(
        "status",
        f"code=429 retry-after=none reason=auto {_ENVELOPE}",
        "An HTTP error that repeats the Authorization header; retry-after is any text, or `date` (in 2 s).",
        scripts.status,
    ),
    Fault("fail-first", "n=1 code=503", "Errors for the first n requests of this name.", scripts.fail_first),
    Fault("flaky", "every=2 code=500", "An error for each k-th request of this name.", scripts.flaky),
    Fault("reset", "", "RST before the answer.", scripts.reset),
    Fault("reset-after", "n=3", "RST after n events (or eighths of a document).", scripts.reset_after),
    Fault("stall", "", "Accepts and never answers.", scripts.stall),
    Fault("stall-after", "n=3", "Falls silent after n events.", scripts.stall_after),
    Fault("cut", "n=3", "FIN after n events; the chunked body has no end.", scripts.cut),
    Fault(
        "cut-clean",
        "n=3",
        "A proper end of the body after n events: no finish, no [DONE].",
        scripts.cut_clean,
    ),
    Fault("truncated", "", "content-length is 1,000 more than what comes, then FIN.", scripts.truncated),
    Fault("malformed-sse", f"n=3 {_BROKEN}", "Broken JSON in event n+1, then on.", sse_scripts.malformed),
    Fault("malformed-json", f"n=3 {_BROKEN}", "The same, meant for documents.", sse_scripts.malformed),
    Fault("huge-line", "mb=10", "One SSE line (or JSON string) of so many MiB.", scripts.huge),
    Fault("huge-body", "mb=100", "So many MiB in small events (or one document).", scripts.huge_body),
    Fault("huge-headers", "kb=64", "A head of so many kB.", scripts.huge_headers),
    Fault("gzip-bomb", "mb=200", "A gzip body that inflates to so many MiB.", scripts.gzip_bomb),
    Fault("slow-headers", "gap=1", "The head, one byte each so many seconds.", scripts.slow_headers),
    Fault("slow-tokens", "gap=1", "A stream with one event each so many seconds."),
    Fault("drip", "gap=0", "One byte a write, each after so many seconds.", scripts.drip),
    Fault("html", "code=502", "The HTML page of a proxy; code=200 too.", scripts.html),
    Fault(
        "wrong-type",
        "as=other|json|text|sse",
        "JSON or plain text where a stream was asked for, a stream where a document was.",
        scripts.wrong_type,
    ),
    Fault("error-body", _ENVELOPE, "Status 200 with an error as the body.", scripts.error_body),
    Fault(
        "error-event",
        "n=3 reason=auto form=openai|done|named|named-flat|flat|field|text|groq|router|empty",
        "An error after n events, in the form of various upstreams (reason: its type at Anthropic), or as document.",
    ),
    Fault("empty", "", "Status 200, no body.", scripts.empty),
    Fault("redirect", "code=302", "A redirect to http://169.254.169.254/.", scripts.redirect),
    Fault("not-http", "", "The greeting of another protocol.", scripts.not_http),
    Fault(
        "reset-on-reuse",
        "",
        "Answers, then closes the kept connection as the next request arrives on it.",
        scripts.reset_on_reuse,
    ),
    Fault("usage-missing", "", "No usage, even if asked for."),
    Fault("usage-negative", "", "Negative token counts."),
    Fault("usage-twice", "", "Half of the usage first, then all of it (a repeated key in a document)."),
    Fault("usage-absurd", "value=1e30|9223372036854775808|NaN|text|null", "Counts that no counter can hold."),
    Fault("usage-float", "", "Counts with a half in them."),
    Fault("usage-place", "at=finish|choice|groq|every", "Usage, unasked, where various upstreams put it."),
    Fault("no-done", "", "A finish reason but no [DONE]."),
    Fault("no-finish", "", "[DONE] but no finish reason."),
    Fault("finish", "reason=eos", "Another finish reason, any word."),
    Fault("prelude", "", "A first chunk without choices, id or model."),
    Fault("sparse", "", "Later chunks (and documents) have choices only."),
    Fault("crlf", "ends=crlf|cr|mix", "Other line ends in the stream.", sse_scripts.crlf),
    Fault("comments", "", "Comments between events (blank lines before a document).", sse_scripts.comments),
    Fault("split-utf8", "", "Characters of several bytes, torn across writes.", sse_scripts.split_utf8),
    Fault(
        "framing",
        "form=bom|no-space|two-lines|ids|named|retry|ping|empty-data|no-end|u2028",
        "Rare forms of the event stream.",
        sse_scripts.framing,
    ),
    Fault("more-tokens", "extra=20", "So many tokens more than max_tokens allows."),
    Fault("reasoning", "field=reasoning_content|reasoning|both|think", "Thinking before the text."),
    Fault(
        "tool-quirks",
        "form=repeat|repeat-id|nulls|empty-name|no-index|zero-index|no-id|late-name|whole|object|"
        "null-arguments|interleaved|finish-stop",
        "Tool-call deltas in the ways of servers that imitate OpenAI; needs tools in the request.",
    ),
)

FAULTS = {fault.name: fault for fault in _ROWS}
_OPTIONS = {fault.name: fault.options for fault in _ROWS}


def read_model(model: str) -> Plan:
    """Reads a model name against this table; raises ModelNameError."""
    return parse_model(model, _OPTIONS)


def script_of(answer: Answer, call: Call) -> Script:
    """The script for an answer that cannot be written at once."""
    fault = FAULTS.get(call.plan.fault)
    script = plain if fault is None or fault.script is None else fault.script
    return script(answer, call)


def describe() -> str:
    """All models, options and faults as a table of plain text."""
    rows = [("MODEL", "", "")] + [(name, "", summary) for name, summary in PERSONAS.items()]
    rows += [("", "", ""), ("FAULT", "OPTIONS (first choice or value is the default)", "")]
    rows += [(f"fault:{fault.name}", fault.options, fault.summary) for fault in _ROWS]
    width = max(len(name) for name, _, _ in rows)
    lines = []
    for name, options, summary in rows:
        lines.append(f"{name:<{width}}  {summary or options}".rstrip())
        if options and summary:
            lines.append(f"{'':<{width}}    {options}")
    return "\n".join([*lines, "", f"Options of every name: {GENERAL_OPTIONS}"])
