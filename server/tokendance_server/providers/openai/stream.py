"""A streamed answer of POST /chat/completions: bytes to canonical events, as they come. Pure, and the hot path."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import completion_pb2 as pb
from tokendance_server.providers import json_text
from tokendance_server.providers.estimates import size_of
from tokendance_server.providers.openai import answer
from tokendance_server.providers.openai.calls import CallNormalizer
from tokendance_server.providers.openai.errors import error_of_document, error_of_event
from tokendance_server.providers.openai.usage import find_usage, read_usage
from tokendance_server.providers.sse import DEFAULT_EVENT_BYTES, SseParser

Json = dict[str, Any]

_REMEMBERED = ("id", "model", "created", "service_tier", "system_fingerprint")
_PLAIN_NAMES = (b"", b"message")


# What nearly every chunk is: a piece of text, of reasoning or of a call's arguments, and nothing else. A field of the
# delta that is not named here fails to decode, and the chunk is then read in full; fields around the delta that do not
# matter are skipped.
class _PlainFunction(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    arguments: str
    name: None = None


class _PlainCall(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    index: int
    function: _PlainFunction
    id: None = None
    type: str | None = None


class _PlainDelta(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    role: str | None = None
    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    refusal: None = None
    tool_calls: list[_PlainCall] | None = None
    function_call: None = None


class _PlainChoice(msgspec.Struct, gc=False):
    delta: _PlainDelta
    index: int = 0
    finish_reason: None = None
    logprobs: None = None
    usage: None = None


class _PlainChunk(msgspec.Struct, gc=False):
    choices: tuple[_PlainChoice]
    object: str = ""
    usage: None = None
    error: None = None
    x_groq: None = None


_decode_plain = msgspec.json.Decoder(_PlainChunk).decode


class _ChoiceState:
    """One choice so far. Items are numbered in the order of their beginning; -1 means not begun."""

    __slots__ = ("calls", "finished", "index", "items", "message_item", "reasoning_item")

    def __init__(self, index: int, mint: Callable[[], str]) -> None:
        self.index = index
        self.items = 0
        self.message_item = -1
        self.reasoning_item = -1
        self.finished = False
        self.calls = CallNormalizer(index, self.next_item, mint)

    def open_message(self) -> int:
        """Return the item of what is said, begun if need be."""
        if self.message_item < 0:
            self.message_item = self.next_item()
        return self.message_item

    def open_reasoning(self) -> int:
        """Return the item of the reasoning, begun if need be."""
        if self.reasoning_item < 0:
            self.reasoning_item = self.next_item()
        return self.reasoning_item

    def next_item(self) -> int:
        """Return the number of a new item."""
        self.items += 1
        return self.items - 1


class OpenAIStreamDecoder:
    """Decodes one streamed answer. `done` is True once nothing of use follows: see StreamDecoder.

    Started comes before anything else, with the first chunk that has a choice. Finished is held back until `[DONE]` or
    the end of the body, because usage comes after the last choice. `[DONE]` ends choices that no chunk has ended; the
    end of the body does not, and raises stream_interrupted instead.
    """

    def __init__(
        self, request: pb.CompletionRequest, mint: Callable[[], str], event_bytes: int = DEFAULT_EVENT_BYTES
    ) -> None:
        self.done = False
        self._failure: GatewayError | None = None
        self._request = request
        self._mint = mint
        self._sse = SseParser(event_bytes)
        self._about: Json = {}
        self._extras: Json = {}
        self._counts: Json | None = None
        self._size = 0
        self._choices: dict[int, _ChoiceState] = {}

    def feed(self, data: bytes) -> list[pb.CompletionEvent]:
        """Return what these bytes complete. Raises provider_error, stream_interrupted or what the upstream tells."""
        events: list[pb.CompletionEvent] = []
        try:
            for name, payload in self._sse.feed(data):
                if self.done:
                    break
                if name or not self._feed_plain(payload, events):
                    self._feed_any(name, payload, events)
        except GatewayError as failure:
            self.done = True
            if not events:
                raise
            # What came before the failure is told first.
            self._failure = failure
        return events

    def close(self) -> list[pb.CompletionEvent]:
        """Return what the end of the body completes, Finished last; raises where the answer was not complete."""
        events: list[pb.CompletionEvent] = []
        if self._failure is not None:
            raise self._failure
        if self.done:
            return events
        if not self._choices and not self._about:
            raise answer.unreadable()
        if not self._choices or not all(choice.finished for choice in self._choices.values()):
            raise answer.interrupted()
        self._finish(events)
        return events

    def _feed_plain(self, payload: bytes, events: list[pb.CompletionEvent]) -> bool:
        """Read a plain piece of text, reasoning or arguments; False, and nothing done, where it is anything else."""
        try:
            chunk = _decode_plain(payload)
        except json_text.UNREADABLE:
            return False
        piece = chunk.choices[0]
        choice = self._choices.get(piece.index)
        if choice is None or chunk.object == "error":
            return False
        delta = piece.delta
        if delta.tool_calls:
            return self._feed_arguments(choice, delta, events)
        reasoning = delta.reasoning_content or delta.reasoning
        if reasoning:
            self._think(choice, reasoning, events)
        text = delta.content
        if text:
            self._size += len(text) if text.isascii() else len(text.encode())
            event = pb.CompletionEvent()
            piece_of_text = event.text
            piece_of_text.text = text
            item = choice.message_item if choice.message_item >= 0 else choice.open_message()
            if item:
                piece_of_text.item = item
            if choice.index:
                piece_of_text.choice = choice.index
            events.append(event)
        return True

    def _feed_arguments(self, choice: _ChoiceState, delta: _PlainDelta, events: list[pb.CompletionEvent]) -> bool:
        calls = delta.tool_calls or ()
        if len(calls) != 1 or delta.content or delta.reasoning_content or delta.reasoning:
            return False
        piece = calls[0].function.arguments
        part = choice.calls.more(calls[0].index, piece)
        if part is None:
            return False
        self._size += size_of(piece)
        events.append(pb.CompletionEvent(tool_call=part))
        return True

    def _think(self, choice: _ChoiceState, text: str, events: list[pb.CompletionEvent]) -> None:
        self._size += size_of(text)
        event = pb.CompletionEvent()
        piece = event.reasoning
        piece.choice = choice.index
        piece.item = choice.open_reasoning()
        piece.text = text
        events.append(event)

    def _feed_any(self, name: bytes, payload: bytes, events: list[pb.CompletionEvent]) -> None:
        if payload.startswith(b"[DONE]"):
            self._end(events)
            return
        if not payload.strip():
            return
        plain = name in _PLAIN_NAMES
        try:
            document = json_text.read_lenient(payload)
        except json_text.UNREADABLE:
            if name == b"error":
                raise error_of_event("") from None
            if plain:
                raise answer.unreadable() from None
            return
        if name == b"error":
            raise error_of_event(document)
        if not isinstance(document, dict):
            if plain:
                raise answer.unreadable()
            return
        error = error_of_document(document)
        if error is not None:
            raise error
        if plain or "choices" in document:
            self._feed_document(document, events)

    def _feed_document(self, document: Json, events: list[pb.CompletionEvent]) -> None:
        for field_name in _REMEMBERED:
            value = document.get(field_name)
            if value and not self._about.get(field_name):
                self._about[field_name] = value
        for field_name in answer.ANSWER_EXTRAS:
            if document.get(field_name) is not None:
                self._extras[field_name] = document[field_name]
        self._counts = find_usage(document) or self._counts
        choices = document.get("choices")
        for position, choice in enumerate(choices if isinstance(choices, list) else ()):
            if isinstance(choice, dict):
                self._feed_choice(choice, position, events)

    def _feed_choice(self, choice: Json, position: int, events: list[pb.CompletionEvent]) -> None:
        index = answer.int_of(choice.get("index"), position)
        state = self._choices.get(index)
        if state is None:
            if not self._choices:
                events.append(self._started())
            state = self._choices[index] = _ChoiceState(index, self._mint)
        delta = choice.get("delta")
        self._feed_delta(state, delta if isinstance(delta, dict) else {}, choice.get("logprobs"), events)
        native = choice.get("finish_reason")
        # An empty word is what some servers write for none.
        if native and not state.finished:
            self._finish_choice(state, choice, events)

    def _feed_delta(self, choice: _ChoiceState, delta: Json, logprobs: Any, events: list[pb.CompletionEvent]) -> None:
        text, thoughts = answer.content_of(delta.get("content"))
        reasoning = answer.reasoning_of(delta) or thoughts
        if reasoning:
            self._think(choice, reasoning, events)
        tokens = logprobs if isinstance(logprobs, dict) else {}
        unknown = json_text.write_object(answer.unknown_of(delta, answer.MESSAGE_FIELDS))
        said = answer.read_logprobs(tokens.get("content"))
        if text or said:
            self._size += size_of(text)
            piece = pb.TextDelta(
                choice=choice.index, item=choice.open_message(), text=text, logprobs=said, extra_json=unknown
            )
            events.append(pb.CompletionEvent(text=piece))
        elif unknown:
            events.append(self._native(choice, unknown))
        self._feed_rest(choice, delta, answer.read_logprobs(tokens.get("refusal")), events)

    def _feed_rest(
        self, choice: _ChoiceState, delta: Json, refused: list[pb.TokenLogprob], events: list[pb.CompletionEvent]
    ) -> None:
        """Refusals, sound, citations and tool calls."""
        index = choice.index
        refusal = answer.text_of(delta.get("refusal"))
        if refusal or refused:
            self._size += size_of(refusal)
            piece = pb.RefusalDelta(choice=index, item=choice.open_message(), text=refusal, logprobs=refused)
            events.append(pb.CompletionEvent(refusal=piece))
        sound = delta.get("audio")
        if isinstance(sound, dict):
            heard = pb.AudioDelta(
                choice=index,
                item=choice.open_message(),
                id=answer.text_of(sound.get("id")),
                data=answer.base64_of(sound.get("data")),
                transcript=answer.text_of(sound.get("transcript")),
                expires_at=answer.int_of(sound.get("expires_at"), below=answer.MOST_SECONDS),
            )
            events.append(pb.CompletionEvent(audio=heard))
        for citation in answer.read_citations(delta.get("annotations")):
            cited = pb.CitationDelta(choice=index, item=choice.open_message(), citation=citation)
            events.append(pb.CompletionEvent(citation=cited))
        for position, call in enumerate(answer.calls_of(delta)):
            for part in choice.calls.feed(call, position):
                self._size += size_of(part.arguments) + size_of(part.name)
                events.append(pb.CompletionEvent(tool_call=part))

    def _finish_choice(self, choice: _ChoiceState, told: Json, events: list[pb.CompletionEvent]) -> None:
        reason = answer.finish_reason(told.get("finish_reason"), called=bool(choice.calls))
        events.extend(pb.CompletionEvent(tool_call=part) for part in choice.calls.finish())
        choice.finished = True
        ended = pb.ChoiceFinished(
            choice=choice.index,
            finish_reason=reason,
            native_finish_reason=answer.native_word(told),
            stop_sequence=answer.text_of(told.get("stop_reason")),
        )
        events.append(pb.CompletionEvent(choice_finished=ended))

    def _end(self, events: list[pb.CompletionEvent]) -> None:
        """The upstream says that this was all, and some say so without having ended each choice."""
        if not self._choices:
            raise answer.unreadable()
        for choice in self._choices.values():
            if not choice.finished:
                self._finish_choice(choice, {}, events)
        self._finish(events)

    def _finish(self, events: list[pb.CompletionEvent]) -> None:
        self.done = True
        usage = read_usage(self._counts, self._request, self._size)
        finished = pb.Finished(usage=usage, extra_json=json_text.write_object(self._extras))
        events.append(pb.CompletionEvent(finished=finished))

    def _started(self) -> pb.CompletionEvent:
        about = self._about
        started = pb.Started(
            id=answer.text_of(about.get("id")),
            model=answer.text_of(about.get("model")),
            created=answer.int_of(about.get("created"), below=answer.MOST_SECONDS),
            service_tier=answer.text_of(about.get("service_tier")),
            system_fingerprint=answer.text_of(about.get("system_fingerprint")),
            dialect=pb.DIALECT_OPENAI_CHAT,
        )
        return pb.CompletionEvent(started=started)

    def _native(self, choice: _ChoiceState, unknown: str) -> pb.CompletionEvent:
        """What a chunk without text holds beyond the known fields, as a chunk of its own."""
        chunk = f'{{"choices":[{{"index":{choice.index},"delta":{unknown}}}]}}'
        native = pb.NativeEvent(dialect=pb.DIALECT_OPENAI_CHAT, type="chat.completion.chunk", json=chunk)
        return pb.CompletionEvent(native=native)
