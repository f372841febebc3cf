"""OpenAI legacy Completions: one string prompt as one user turn, and the answer as `text_completion`.

Served: one string prompt. Refused as unsupported_parameter: several prompts, token prompts, `suffix`, `best_of`
above `n`, and `echo` together with `logprobs`, because they have no place in the canonical form.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from tokendance.gateway.v1 import completion_pb2 as pb
from tokendance_facade.dialects import checks
from tokendance_facade.dialects.documents import (
    Document,
    add_extra,
    answer_id,
    dump_request_extra,
    keep_unknown,
    read_object,
)
from tokendance_facade.dialects.sampling import SHARED_FIELDS, decode_stream
from tokendance_facade.dialects.usage import FINISH_REASONS, usage_document

DEFAULT_MAX_TOKENS = 16
DONE = b"data: [DONE]\n\n"

_TOGETHER = frozenset({"prompt", "max_tokens", "logprobs", "echo", "best_of", "suffix", "stream", "stream_options"})


@dataclass(frozen=True, slots=True)
class TextCall:
    """A decoded request, and what of it decides the form of the answer."""

    completion: pb.CompletionRequest
    stream: bool
    echo: str
    """What stands before each answer: the prompt where `echo` was asked for, else nothing."""


def decode(body: bytes) -> TextCall:
    """Decode a request body. Raises invalid_json, invalid_request and unsupported_parameter, naming the field."""
    return decode_document(read_object(body))


def decode_document(document: Document) -> TextCall:
    """Decode what was read of a body. Raises invalid_request and unsupported_parameter, naming the field."""
    request = pb.CompletionRequest(dialect=pb.DIALECT_OPENAI_COMPLETIONS)
    extra: Document = {}
    for name, value in document.items():
        field = SHARED_FIELDS.get(name)
        if field is not None:
            if value is not None:
                field(request, value)
        elif name not in _TOGETHER:
            keep_unknown(extra, name, value)
    if not request.model:
        raise checks.missing("model")
    prompt = _prompt(document.get("prompt"))
    request.messages.add(role=pb.ROLE_USER).parts.add().text.text = prompt
    cap = document.get("max_tokens")
    request.max_output_tokens = (
        DEFAULT_MAX_TOKENS if cap is None else checks.integer(cap, "max_tokens", 1, checks.INT64_MAX)
    )
    _decode_logprobs(document, request)
    _refuse_best_of(document, request)
    if document.get("suffix"):
        raise checks.unsupported("suffix", "`suffix` is not served; leave it out.")
    stream, stream_options = decode_stream(document, request)
    if stream_options is not None:
        extra.update(stream_options)
    if extra:
        request.extra_json = dump_request_extra(extra)
    return TextCall(request, stream, prompt if _echo(document) else "")


def encode(completion: pb.Completion, *, echo: str = "") -> bytes:
    """Return the body of a whole answer."""
    document: Document = {
        "id": answer_id(completion.id, "cmpl-"),
        "object": "text_completion",
        "created": completion.created,
        "model": completion.model,
        "choices": [
            {
                "text": echo + "".join(part.text.text for part in choice.message.parts if part.HasField("text")),
                "index": choice.index,
                "logprobs": _logprobs(choice.logprobs, len(echo)),
                "finish_reason": _finish_word(choice.finish_reason),
            }
            for choice in completion.choices
        ],
    }
    if completion.HasField("usage"):
        document["usage"] = usage_document(completion.usage, completion.account)
    if completion.system_fingerprint:
        document["system_fingerprint"] = completion.system_fingerprint
    if completion.extra_json and completion.dialect == pb.DIALECT_OPENAI_COMPLETIONS:
        add_extra(document, completion.extra_json)
    return orjson.dumps(document)


class TextStreamEncoder:
    """Encodes one stream of legacy chunks, which hold new text only."""

    def __init__(self, *, include_usage: bool, echo: str = "") -> None:
        self._include_usage = include_usage
        self._echo = echo
        self._head: Document = {}
        self._offsets: dict[int, int] = {}
        self._started: pb.Started | None = None
        self.finished = False

    @property
    def warnings(self) -> Sequence[pb.Warning]:
        """What was left out or changed, as known once the stream has started."""
        return self._started.warnings if self._started is not None else ()

    def feed(self, events: Iterable[pb.CompletionEvent]) -> bytes:
        """Return the SSE bytes of events that came together; empty where nothing is to be sent yet."""
        out: list[bytes] = []
        for event in events:
            kind = event.WhichOneof("event")
            if kind == "text":
                delta = event.text
                offset = self._offset(delta.choice, out)
                logprobs = _logprobs(delta.logprobs, offset)
                self._offsets[delta.choice] = offset + len(delta.text)
                out.append(self._chunk(delta.choice, delta.text, logprobs, None))
            elif kind == "choice_finished":
                end = event.choice_finished
                self._offset(end.choice, out)
                out.append(self._chunk(end.choice, "", None, _finish_word(end.finish_reason)))
            elif kind == "started":
                self._start(event.started)
            elif kind == "finished":
                self.finished = True
                if self._include_usage:
                    out.append(
                        self._event(
                            {"choices": [], "usage": usage_document(event.finished.usage, event.finished.account)}
                        )
                    )
                out.append(DONE)
        return b"".join(out)

    def _start(self, started: pb.Started) -> None:
        self._started = started
        self._head = {
            "id": answer_id(started.id, "cmpl-"),
            "object": "text_completion",
            "created": started.created,
            "model": started.model,
        }
        if started.system_fingerprint:
            self._head["system_fingerprint"] = started.system_fingerprint

    def _offset(self, choice: int, out: list[bytes]) -> int:
        """Return how many characters of a choice went out; the first time the echo goes out before it."""
        offset = self._offsets.get(choice)
        if offset is None:
            offset = self._offsets[choice] = len(self._echo)
            if self._echo:
                out.append(self._chunk(choice, self._echo, None, None))
        return offset

    def _chunk(self, choice: int, text: str, logprobs: Document | None, finish: str | None) -> bytes:
        document: Document = {
            "choices": [{"text": text, "index": choice, "logprobs": logprobs, "finish_reason": finish}]
        }
        if self._include_usage:
            document["usage"] = None
        return self._event(document)

    def _event(self, document: Document) -> bytes:
        return b"data: %b\n\n" % orjson.dumps({**self._head, **document})


def _prompt(value: Any) -> str:
    if value is None:
        raise checks.missing("prompt")
    if type(value) is list:
        raise checks.unsupported("prompt", "`prompt` must be one string; lists and token ids are not served.")
    return checks.text(value, "prompt")


def _decode_logprobs(document: Document, request: pb.CompletionRequest) -> None:
    value = document.get("logprobs")
    if value is not None:
        request.logprobs.enabled = True
        request.logprobs.top = checks.integer(value, "logprobs", 0, 5)


def _refuse_best_of(document: Document, request: pb.CompletionRequest) -> None:
    best_of = document.get("best_of")
    if best_of is None:
        return
    count = request.choice_count or 1
    if checks.integer(best_of, "best_of", 1, 20) < count:
        raise checks.invalid("best_of", "`best_of` must not be less than `n`.")
    if best_of > count:
        raise checks.unsupported("best_of", "`best_of` above `n` is not served; leave it out.")


def _echo(document: Document) -> bool:
    echo = document.get("echo")
    if echo is None or not checks.boolean(echo, "echo"):
        return False
    if document.get("logprobs") is not None:
        raise checks.unsupported("echo", "`echo` together with `logprobs` is not served; leave one out.")
    return True


def _finish_word(reason: pb.FinishReason.ValueType) -> str:
    word = FINISH_REASONS.get(reason, "stop")
    return "stop" if word == "tool_calls" else word


def _logprobs(tokens: Sequence[pb.TokenLogprob], offset: int) -> Document | None:
    """Return log probabilities in the legacy form; `offset` is where the first token begins, in characters."""
    if not tokens:
        return None
    offsets: list[int] = []
    for token in tokens:
        offsets.append(offset)
        offset += len(token.token)
    return {
        "tokens": [token.token for token in tokens],
        "token_logprobs": [token.logprob for token in tokens],
        "top_logprobs": [{other.token: other.logprob for other in token.top} for token in tokens],
        "text_offset": offsets,
    }
