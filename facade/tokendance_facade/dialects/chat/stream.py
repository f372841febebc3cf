"""Canonical events as `chat.completion.chunk` events: the hot path, so plain text is written by hand."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import orjson

from tokendance.gateway.v1 import completion_pb2 as pb
from tokendance_facade.dialects.chat.answer import (
    annotation,
    finish_word,
    image_document,
    logprobs_document,
    signature_document,
)
from tokendance_facade.dialects.documents import Document, add_extra, answer_id, extra_fields
from tokendance_facade.dialects.media import encode_base64
from tokendance_facade.dialects.usage import SHOWS_NATIVE, usage_document

DONE = b"data: [DONE]\n\n"

_dumps = orjson.dumps


class ChatStreamEncoder:
    """Encodes one stream. The chunk with the role is held back until its choice has something to say.

    For each choice: the role, its deltas, the finish reason; at the end usage if it was asked for (earlier chunks
    then carry `usage: null`), and `[DONE]`.
    """

    def __init__(self, *, include_usage: bool, function_call: bool = False) -> None:
        self._include_usage = include_usage
        self._function_call = function_call
        self._head = b""
        self._tail = b"}\n\n"
        self._text_end = b""
        self._text_heads: dict[int, bytes] = {}
        self._calls: set[tuple[int, int]] = set()
        self._custom: set[tuple[int, int]] = set()
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
                head = self._text_heads.get(delta.choice)
                if head is None:
                    head = self._open(delta.choice, out)
                if delta.logprobs or delta.extra_json:
                    out.append(self._text_with_more(delta))
                else:
                    out += (head, _dumps(delta.text), self._text_end)
            elif kind is not None:
                self._other(kind, event, out)
        return b"".join(out)

    def _other(self, kind: str, event: pb.CompletionEvent, out: list[bytes]) -> None:
        if kind == "tool_call":
            self._tool_call(event.tool_call, out)
        elif kind == "started":
            self._start(event.started)
        elif kind == "choice_finished":
            self._choice_finished(event.choice_finished, out)
        elif kind == "finished":
            self._finish(event.finished, out)
        elif kind == "reasoning":
            text = event.reasoning.text or event.reasoning.summary
            if text:
                self._delta(event.reasoning.choice, {"reasoning_content": text}, out)
        elif kind == "refusal":
            refusal = event.refusal
            more = logprobs_document((), refusal.logprobs) if refusal.logprobs else None
            self._delta(refusal.choice, {"refusal": refusal.text}, out, logprobs=more)
        elif kind == "audio":
            self._delta(event.audio.choice, {"audio": _audio(event.audio)}, out)
        elif kind == "citation":
            self._delta(event.citation.choice, {"annotations": [annotation(event.citation.citation)]}, out)
        elif kind == "image" and not event.image.partial:
            picture = image_document(event.image.data, event.image.media_type, event.image.item)
            self._delta(event.image.choice, {"images": [picture]}, out)
        elif kind == "native":
            self._native(event.native, out)

    def _start(self, started: pb.Started) -> None:
        self._started = started
        document: Document = {
            "id": answer_id(started.id, "chatcmpl-"),
            "object": "chat.completion.chunk",
            "created": started.created,
            "model": started.model,
        }
        if started.service_tier:
            document["service_tier"] = started.service_tier
        if started.system_fingerprint:
            document["system_fingerprint"] = started.system_fingerprint
        self._head = b"data: " + _dumps(document)[:-1]
        if self._include_usage:
            self._tail = b',"usage":null}\n\n'
        self._text_end = b'},"logprobs":null,"finish_reason":null}]' + self._tail

    def _open(self, choice: int, out: list[bytes], *, with_call: bool = False) -> bytes:
        """Send the role of a choice, and return the beginning of its text chunks."""
        content = b"null" if with_call else b'""'
        out += (
            self._head,
            b',"choices":[{"index":%d,"delta":{"role":"assistant","content":%b,"refusal":null' % (choice, content),
            self._text_end,
        )
        head = b'%b,"choices":[{"index":%d,"delta":{"content":' % (self._head, choice)
        self._text_heads[choice] = head
        return head

    def _delta(
        self,
        choice: int,
        delta: Document,
        out: list[bytes],
        *,
        finish: str | None = None,
        logprobs: Document | None = None,
        more: Document | None = None,
    ) -> None:
        if choice not in self._text_heads:
            self._open(choice, out, with_call="tool_calls" in delta or "function_call" in delta)
        document: Document = {"index": choice, "delta": delta, "logprobs": logprobs, "finish_reason": finish}
        if more:
            document.update(more)
        out += (self._head, b',"choices":[', _dumps(document), b"]", self._tail)

    def _text_with_more(self, delta: pb.TextDelta) -> bytes:
        out: list[bytes] = []
        document: Document = {"content": delta.text}
        if delta.extra_json and self._same_dialect:
            add_extra(document, delta.extra_json)
        logprobs = logprobs_document(delta.logprobs, ()) if delta.logprobs else None
        self._delta(delta.choice, document, out, logprobs=logprobs)
        return b"".join(out)

    def _tool_call(self, delta: pb.ToolCallDelta, out: list[bytes]) -> None:
        """Id, type and name go out once, with the first delta of a call: clients append what is repeated."""
        key = (delta.choice, delta.index)
        custom = delta.kind == pb.TOOL_KIND_CUSTOM
        call: Document
        if key not in self._calls:
            self._calls.add(key)
            inner = {"name": delta.name, "input" if custom else "arguments": delta.arguments}
            kind = "custom" if custom else "function"
            if custom:
                self._custom.add(key)
            call = {"index": delta.index, "id": delta.id, "type": kind, kind: inner}
            if delta.signature:
                call["extra_content"] = signature_document(delta.signature)
        elif key in self._custom:
            call = {"index": delta.index, "custom": {"input": delta.arguments}}
        else:
            call = {"index": delta.index, "function": {"arguments": delta.arguments}}
        if not self._function_call:
            self._delta(delta.choice, {"tool_calls": [call]}, out)
        elif delta.index == 0 and "function" in call:
            self._delta(delta.choice, {"function_call": call["function"]}, out)

    def _choice_finished(self, end: pb.ChoiceFinished, out: list[bytes]) -> None:
        more: Document | None = None
        if end.finish_reason in SHOWS_NATIVE and end.native_finish_reason:
            more = {"native_finish_reason": end.native_finish_reason}
        word = finish_word(end.finish_reason, function_call=self._function_call)
        self._delta(end.choice, {}, out, finish=word, more=more)

    def _finish(self, finished: pb.Finished, out: list[bytes]) -> None:
        self.finished = True
        if self._include_usage:
            usage = usage_document(finished.usage, finished.account, same_dialect=self._same_dialect)
            document: Document = {"choices": [], "usage": usage}
            if finished.extra_json and self._same_dialect:
                add_extra(document, finished.extra_json)
            out += (self._head, b",", _dumps(document)[1:], b"\n\n")
        out.append(DONE)

    def _native(self, native: pb.NativeEvent, out: list[bytes]) -> None:
        """Pass on a chunk that only this dialect knows, under this stream's own names."""
        if native.dialect != pb.DIALECT_OPENAI_CHAT:
            return
        fields = extra_fields(native.json)
        for ours in ("id", "object", "created", "model", "service_tier", "system_fingerprint", "usage", "error"):
            fields.pop(ours, None)
        if fields:
            fields.setdefault("choices", [])
            out += (self._head, b",", _dumps(fields)[1:-1], self._tail)

    @property
    def _same_dialect(self) -> bool:
        return self._started is not None and self._started.dialect == pb.DIALECT_OPENAI_CHAT


def _audio(delta: pb.AudioDelta) -> Document:
    document: Document = {}
    if delta.id:
        document["id"] = delta.id
    if delta.data:
        document["data"] = encode_base64(delta.data)
    if delta.transcript:
        document["transcript"] = delta.transcript
    if delta.expires_at:
        document["expires_at"] = delta.expires_at
    return document
