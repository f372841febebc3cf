"""A streamed answer of streamGenerateContent: bytes to canonical events, as they come. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import completion_pb2 as pb
from tokendance_server.providers import json_text
from tokendance_server.providers.estimates import size_of
from tokendance_server.providers.gemini import answer
from tokendance_server.providers.gemini.errors import READ_BYTES, error_of_document
from tokendance_server.providers.gemini.signatures import marked, read_signature
from tokendance_server.providers.gemini.usage import read_usage
from tokendance_server.providers.sse import DEFAULT_EVENT_BYTES, SseParser

Json = dict[str, Any]


class _ChoiceState:
    """One candidate so far. A new item begins whenever the kind of what is told changes; calls have one each."""

    __slots__ = ("calls", "finished", "index", "item", "kind", "signed")

    def __init__(self, index: int) -> None:
        self.index = index
        self.item = -1
        self.kind = ""
        self.calls = 0
        self.signed = False
        self.finished = False

    def item_of(self, kind: str) -> int:
        """Return the number of the item that what is told next belongs to."""
        if kind != self.kind or kind == "call":
            self.item += 1
            self.kind = kind
        return self.item


class GeminiStreamDecoder:
    """Decodes one streamed answer: each event is a whole document whose parts continue those before. See StreamDecoder.

    There is no last event: the end of the body is the end, and raises stream_interrupted where a candidate has none.
    Some failures come as a bare JSON document in the middle of the stream, which is read as such.
    """

    def __init__(
        self, request: pb.CompletionRequest, mint: Callable[[], str], event_bytes: int = DEFAULT_EVENT_BYTES
    ) -> None:
        self.done = False
        self._failure: GatewayError | None = None
        self._request = request
        self._mint = mint
        self._sse = SseParser(event_bytes)
        self._bare: bytearray | None = None
        self._line_begins = True
        self._started = False
        self._blocked = False
        self._counts: Any = None
        self._paused = ""
        self._size = 0
        self._choices: dict[int, _ChoiceState] = {}

    def feed(self, data: bytes) -> list[pb.CompletionEvent]:
        """Return what these bytes complete. Raises provider_error, stream_interrupted or what the upstream tells."""
        events: list[pb.CompletionEvent] = []
        try:
            for name, payload in self._sse.feed(self._without_bare(data)):
                self._feed_event(name, payload, events)
        except GatewayError as failure:
            self.done = True
            if not events:
                raise
            # What came before the failure is told first.
            self._failure = failure
        return events

    def close(self) -> list[pb.CompletionEvent]:
        """Return what the end of the body completes, Finished last; raises where the answer was not complete."""
        if self._failure is not None:
            raise self._failure
        if self.done:
            return []
        if self._bare is not None:
            raise self._told_bare()
        if not self._started:
            raise answer.unreadable()
        if not self._blocked and not (self._choices and all(one.finished for one in self._choices.values())):
            raise answer.interrupted()
        self.done = True
        usage = read_usage(self._counts, self._request, self._size)
        return [pb.CompletionEvent(finished=pb.Finished(usage=usage, extra_json=self._paused))]

    def _without_bare(self, data: bytes) -> bytes:
        """Return what is event stream in these bytes; a line that begins like a document ends it."""
        if self._bare is None:
            if not data:
                return data
            at = 0 if self._line_begins and data[:1] in (b"{", b"[") else -1
            for mark in (b"\n{", b"\r{", b"\n[", b"\r["):
                found = data.find(mark) + 1
                if found and (at < 0 or found < at):
                    at = found
            self._line_begins = data[-1:] in (b"\n", b"\r")
            if at < 0:
                return data
            self._bare = bytearray()
            data, rest = data[:at], data[at:]
        else:
            data, rest = b"", data
        self._bare += rest[: READ_BYTES - len(self._bare)]
        return data

    def _told_bare(self) -> GatewayError:
        try:
            document = json_text.read(bytes(self._bare or b""))
        except json_text.UNREADABLE:
            return answer.interrupted() if self._started else answer.unreadable()
        return error_of_document(document) or answer.unreadable()

    def _feed_event(self, name: bytes, payload: bytes, events: list[pb.CompletionEvent]) -> None:
        if not payload.strip() or name not in (b"", b"message", b"error"):
            return
        try:
            document = json_text.read_lenient(payload)
        except json_text.UNREADABLE:
            raise answer.unreadable() from None
        error = error_of_document(document)
        if error is not None:
            raise error
        if name == b"error" or not isinstance(document, dict):
            raise answer.unreadable()
        self._feed_document(document, events)

    def _feed_document(self, document: Json, events: list[pb.CompletionEvent]) -> None:
        self._counts = document.get("usageMetadata") or self._counts
        candidates = answer.candidates_of(document)
        self._paused = answer.paused_json(candidates) or self._paused
        blocked = answer.block_reason(document)
        if not candidates and not (blocked and not self._choices and not self._blocked):
            return
        if not self._started:
            self._started = True
            events.append(_started(document))
        if not candidates:
            self._blocked = True
            ended = pb.ChoiceFinished(finish_reason=pb.FINISH_REASON_CONTENT_FILTER, native_finish_reason=blocked)
            events.append(pb.CompletionEvent(choice_finished=ended))
        for position, candidate in enumerate(candidates):
            index = answer.int_of(candidate.get("index"), position)
            choice = self._choices.get(index)
            if choice is None:
                choice = self._choices[index] = _ChoiceState(index)
            if not choice.finished:
                self._feed_candidate(choice, candidate, events)

    def _feed_candidate(self, choice: _ChoiceState, candidate: Json, events: list[pb.CompletionEvent]) -> None:
        logprobs = answer.read_logprobs(candidate.get("logprobsResult"))
        for part in answer.parts_of(candidate):
            signature = read_signature(part.get("thoughtSignature"))
            call = part.get("functionCall")
            if signature and not choice.signed and isinstance(call, dict):
                self._sign(choice, signature, events)
            if isinstance(call, dict):
                self._call(choice, call, signature, events)
            elif not self._say(choice, part, logprobs, events):
                self._show(choice, part, events)
            if signature and not choice.signed:
                self._sign(choice, signature, events)
        for citation in answer.citations_of(candidate):
            cited = pb.CitationDelta(choice=choice.index, item=max(choice.item, 0), citation=citation)
            events.append(pb.CompletionEvent(citation=cited))
        word = answer.finish_word(candidate)
        if word:
            choice.finished = True
            ended = pb.ChoiceFinished(
                choice=choice.index,
                finish_reason=answer.finish_reason(word, called=choice.calls > 0),
                native_finish_reason=word,
            )
            events.append(pb.CompletionEvent(choice_finished=ended))

    def _say(
        self, choice: _ChoiceState, part: Json, logprobs: list[pb.TokenLogprob], events: list[pb.CompletionEvent]
    ) -> bool:
        """Tell the text or the thinking of a part; False where it has neither."""
        text = part.get("text")
        if not isinstance(text, str):
            return False
        if not text:
            return True
        self._size += size_of(text)
        if part.get("thought") is True:
            thought = pb.ReasoningDelta(choice=choice.index, item=choice.item_of("reasoning"), text=text)
            events.append(pb.CompletionEvent(reasoning=thought))
        else:
            said = pb.TextDelta(choice=choice.index, item=choice.item_of("text"), text=text, logprobs=logprobs)
            logprobs.clear()
            events.append(pb.CompletionEvent(text=said))
        return True

    def _call(self, choice: _ChoiceState, call: Json, signature: bytes, events: list[pb.CompletionEvent]) -> None:
        name_id, name, arguments = answer.call_of(call, self._mint)
        self._size += size_of(name) + size_of(arguments)
        called = pb.ToolCallDelta(
            choice=choice.index,
            item=choice.item_of("call"),
            index=choice.calls,
            id=name_id,
            name=name,
            kind=pb.TOOL_KIND_FUNCTION,
            arguments=arguments,
            signature=signature,
        )
        choice.calls += 1
        events.append(pb.CompletionEvent(tool_call=called))

    def _show(self, choice: _ChoiceState, part: Json, events: list[pb.CompletionEvent]) -> None:
        """Pictures, sound, and what only this dialect knows."""
        media = answer.media_of(part)
        if media is None:
            native = answer.native_of(part)
            if native is not None:
                told = pb.NativeEvent(dialect=pb.DIALECT_GEMINI, type=native[0], json=native[1])
                events.append(pb.CompletionEvent(native=told))
            return
        kind, data = media
        if kind.startswith("audio/"):
            heard = pb.AudioDelta(choice=choice.index, item=choice.item_of("audio"), data=data)
            events.append(pb.CompletionEvent(audio=heard))
        else:
            seen = pb.ImageDelta(choice=choice.index, item=choice.item_of("image"), data=data, media_type=kind)
            events.append(pb.CompletionEvent(image=seen))

    def _sign(self, choice: _ChoiceState, signature: bytes, events: list[pb.CompletionEvent]) -> None:
        """Tell the turn's signature with its reasoning, in which more callers bring it back than on a call."""
        choice.signed = True
        signed = pb.ReasoningDelta(choice=choice.index, item=choice.item_of("reasoning"), signature=marked(signature))
        events.append(pb.CompletionEvent(reasoning=signed))


def _started(document: Json) -> pb.CompletionEvent:
    started = pb.Started(
        id=answer.text_of(document.get("responseId")),
        model=answer.text_of(document.get("modelVersion")),
        dialect=pb.DIALECT_GEMINI,
    )
    return pb.CompletionEvent(started=started)
