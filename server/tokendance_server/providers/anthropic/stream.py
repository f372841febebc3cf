"""A streamed answer of POST /messages: bytes to canonical events, as they come. Pure.

A block of a type that only this API knows travels as native events; a block's own unknown fields as a native event
`block_fields` before it. Both name their block by its canonical item, under `index`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import completion_pb2 as pb
from tokendance_server.providers import json_text
from tokendance_server.providers.anthropic import answer
from tokendance_server.providers.anthropic.errors import error_of_document
from tokendance_server.providers.anthropic.usage import merge_counts, read_usage
from tokendance_server.providers.estimates import size_of
from tokendance_server.providers.sse import DEFAULT_EVENT_BYTES, SseParser

Json = dict[str, Any]

BLOCK_FIELDS = "block_fields"
_TYPED_BLOCKS = frozenset({"text", "thinking", "redacted_thinking", "tool_use"})
_DELTA_FIELDS = frozenset({"type", "delta", "usage"})
_END_FIELDS = frozenset({"stop_reason", "stop_sequence"})


# What nearly every event is: a piece of text. Anything else fails to decode, and is then read in full.
class _TextDelta(msgspec.Struct, forbid_unknown_fields=True, tag_field="type", tag="text_delta", gc=False):
    text: str


class _TextEvent(msgspec.Struct, forbid_unknown_fields=True, tag_field="type", tag="content_block_delta", gc=False):
    index: int
    delta: _TextDelta


_decode_text = msgspec.json.Decoder(_TextEvent).decode


class _Block:
    """One content block so far. `call` is the number of its call, -1 where it is none."""

    __slots__ = ("arguments", "call", "custom", "given", "item", "kind", "open")

    def __init__(self, item: int, kind: str) -> None:
        self.item = item
        self.kind = kind
        self.call = -1
        self.custom = False
        self.given: Any = None
        self.arguments = ""
        self.open = True


class AnthropicStreamDecoder:
    """Decodes one streamed answer. `done` is True once nothing of use follows: see StreamDecoder.

    Started comes with `message_start`; ChoiceFinished and Finished with `message_stop`, or at the end of a body whose
    `message_delta` said why the answer ended.
    """

    def __init__(
        self, request: pb.CompletionRequest, mint: Callable[[], str], event_bytes: int = DEFAULT_EVENT_BYTES
    ) -> None:
        self._request = request
        self._mint = mint
        self._custom = answer.custom_tools(request)
        self._sse = SseParser(event_bytes)
        self._started = False
        self._failure: GatewayError | None = None
        self._counts: Json = {}
        self._size = 0
        self._calls = 0
        self._blocks: dict[int, _Block] = {}
        self._items = 0
        self._end: Json | None = None
        self._extras: Json = {}
        self.done = False

    def feed(self, data: bytes) -> list[pb.CompletionEvent]:
        """Return what these bytes complete. Raises provider_error, stream_interrupted or what the upstream tells."""
        events: list[pb.CompletionEvent] = []
        try:
            for _, payload in self._sse.feed(data):
                if self.done:
                    break
                if not self._feed_text(payload, events):
                    self._feed_any(payload, events)
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
        if not self._started:
            raise answer.unreadable()
        if self._end is None:
            raise answer.interrupted()
        self._finish(events)
        return events

    def _feed_text(self, payload: bytes, events: list[pb.CompletionEvent]) -> bool:
        """Read a piece of text; False, and nothing done, where it is anything else."""
        try:
            piece = _decode_text(payload)
        except json_text.UNREADABLE:
            return False
        block = self._blocks.get(piece.index)
        if block is None or block.kind != "text":
            return False
        text = piece.delta.text
        if text:
            self._size += size_of(text)
            events.append(pb.CompletionEvent(text=pb.TextDelta(item=block.item, text=text)))
        return True

    def _feed_any(self, payload: bytes, events: list[pb.CompletionEvent]) -> None:
        if not payload.strip() or payload.startswith(b"[DONE]"):
            return
        try:
            event = json_text.read_lenient(payload)
        except json_text.UNREADABLE:
            raise answer.unreadable() from None
        if not isinstance(event, dict):
            raise answer.unreadable()
        error = error_of_document(event)
        if error is not None:
            raise error
        kind = event.get("type")
        if kind == "message_start":
            self._start(event, events)
        elif kind == "ping":
            return
        elif not self._started:
            raise answer.unreadable()
        elif kind == "content_block_start":
            self._open_block(event, events)
        elif kind == "content_block_delta":
            self._feed_delta(event, events)
        elif kind == "content_block_stop":
            self._close_block(event, events)
        elif kind == "message_delta":
            self._feed_end(event)
        elif kind == "message_stop":
            self._finish(events)
        elif isinstance(kind, str) and kind:
            events.append(_native(kind, event))

    def _start(self, event: Json, events: list[pb.CompletionEvent]) -> None:
        message = event.get("message")
        if self._started or not isinstance(message, dict):
            raise answer.unreadable()
        self._started = True
        merge_counts(self._counts, message.get("usage"))
        started = pb.Started(
            id=answer.text_of(message.get("id")),
            model=answer.text_of(message.get("model")),
            service_tier=answer.text_of(self._counts.get("service_tier")),
            dialect=pb.DIALECT_ANTHROPIC_MESSAGES,
            extra_json=json_text.write_object(answer.unknown_answer_fields(message)),
        )
        if self._counts:
            started.usage.CopyFrom(read_usage(self._counts, self._request, 0))
        events.append(pb.CompletionEvent(started=started))

    def _open_block(self, event: Json, events: list[pb.CompletionEvent]) -> None:
        content, index = event.get("content_block"), event.get("index")
        if not isinstance(content, dict) or not isinstance(index, int) or index in self._blocks:
            raise answer.unreadable()
        block = self._blocks[index] = _Block(self._items, answer.text_of(content.get("type")))
        self._items += 1
        if block.kind not in _TYPED_BLOCKS:
            events.append(_native("content_block_start", event | {"index": block.item}))
            return
        unknown = answer.unknown_block_fields(content)
        if unknown:
            fields = {"index": block.item, "content_block": unknown}
            events.append(_native(BLOCK_FIELDS, fields))
        if block.kind == "tool_use":
            self._open_call(block, content, events)
        elif block.kind == "redacted_thinking":
            sealed = pb.ReasoningDelta(
                item=block.item, encrypted_content=answer.text_of(content.get("data")), redacted=True
            )
            events.append(pb.CompletionEvent(reasoning=sealed))
        else:
            events.append(pb.CompletionEvent(item_started=pb.ItemStarted(item=block.item, type=block.kind)))
            self._feed_beginning(block, content, events)

    def _feed_beginning(self, block: _Block, content: Json, events: list[pb.CompletionEvent]) -> None:
        """Read what some servers write into the beginning of a block already."""
        if block.kind == "text":
            self._say(block, content.get("text"), events)
        else:
            self._think(block, content.get("thinking"), content.get("signature"), events)

    def _open_call(self, block: _Block, content: Json, events: list[pb.CompletionEvent]) -> None:
        name = answer.text_of(content.get("name"))
        if not name:
            raise answer.unreadable()
        block.call = self._calls
        self._calls += 1
        block.custom = name in self._custom
        # An empty object here is no data: the arguments follow. Some servers have them here instead.
        block.given = content.get("input") or None
        first = pb.ToolCallDelta(
            item=block.item,
            index=block.call,
            id=answer.text_of(content.get("id")) or self._mint(),
            name=name,
            kind=pb.TOOL_KIND_CUSTOM if block.custom else pb.TOOL_KIND_FUNCTION,
        )
        self._size += size_of(name)
        events.append(pb.CompletionEvent(tool_call=first))

    def _feed_delta(self, event: Json, events: list[pb.CompletionEvent]) -> None:
        index, delta = event.get("index"), event.get("delta")
        block = self._blocks.get(index) if isinstance(index, int) else None
        if block is None or not block.open or not isinstance(delta, dict):
            raise answer.unreadable()
        kind = delta.get("type")
        if kind == "text_delta" and block.kind == "text":
            self._say(block, delta.get("text"), events)
        elif kind == "thinking_delta" and block.kind == "thinking":
            self._think(block, delta.get("thinking"), None, events)
        elif kind == "signature_delta" and block.kind == "thinking":
            self._think(block, None, delta.get("signature"), events)
        elif kind == "input_json_delta" and block.kind == "tool_use":
            self._feed_arguments(block, answer.text_of(delta.get("partial_json")), events)
        elif kind == "citations_delta" and block.kind == "text" and isinstance(delta.get("citation"), dict):
            cited = pb.CitationDelta(item=block.item, citation=answer.read_citation(delta["citation"]))
            events.append(pb.CompletionEvent(citation=cited))
        else:
            events.append(_native("content_block_delta", event | {"index": block.item}))

    def _say(self, block: _Block, text: Any, events: list[pb.CompletionEvent]) -> None:
        if isinstance(text, str) and text:
            self._size += size_of(text)
            events.append(pb.CompletionEvent(text=pb.TextDelta(item=block.item, text=text)))

    def _think(self, block: _Block, text: Any, signature: Any, events: list[pb.CompletionEvent]) -> None:
        thought, signed = answer.text_of(text), answer.text_of(signature)
        if thought or signed:
            self._size += size_of(thought)
            piece = pb.ReasoningDelta(item=block.item, text=thought, signature=signed)
            events.append(pb.CompletionEvent(reasoning=piece))

    def _feed_arguments(self, block: _Block, piece: str, events: list[pb.CompletionEvent]) -> None:
        if not piece:
            return
        self._size += size_of(piece)
        block.arguments += piece
        # The text of a custom tool lies inside JSON: it is whole only at the end.
        if not block.custom:
            events.append(_arguments(block, piece))

    def _close_block(self, event: Json, events: list[pb.CompletionEvent]) -> None:
        index = event.get("index")
        block = self._blocks.get(index) if isinstance(index, int) else None
        if block is None or not block.open:
            raise answer.unreadable()
        block.open = False
        if block.kind not in _TYPED_BLOCKS:
            events.append(_native("content_block_stop", event | {"index": block.item}))
            return
        if block.kind == "tool_use":
            self._close_call(block, events)
        events.append(pb.CompletionEvent(item_finished=pb.ItemFinished(item=block.item)))

    def _close_call(self, block: _Block, events: list[pb.CompletionEvent]) -> None:
        if not block.custom:
            if not block.arguments:
                whole = json_text.write(block.given if block.given is not None else {})
                self._size += size_of(whole)
                events.append(_arguments(block, whole))
            return
        try:
            given = json_text.read(block.arguments) if block.arguments else block.given
        except json_text.UNREADABLE:
            given = block.arguments
        text = given if isinstance(given, str) else answer.custom_input(given)
        events.append(_arguments(block, text))

    def _feed_end(self, event: Json) -> None:
        delta = event.get("delta")
        delta = delta if isinstance(delta, dict) else {}
        merge_counts(self._counts, event.get("usage"))
        if delta.get("stop_reason") or self._end is None:
            self._end = delta
        unknown = {name: value for name, value in delta.items() if name not in _END_FIELDS and value is not None}
        if unknown:
            self._extras["delta"] = {**self._extras.get("delta", {}), **unknown}
        self._extras.update(
            (name, value) for name, value in event.items() if name not in _DELTA_FIELDS and value is not None
        )

    def _finish(self, events: list[pb.CompletionEvent]) -> None:
        self.done = True
        for index, block in self._blocks.items():
            if block.open:
                self._close_block({"type": "content_block_stop", "index": index}, events)
        end = self._end or {}
        native = answer.text_of(end.get("stop_reason"))
        ended = pb.ChoiceFinished(
            finish_reason=answer.finish_reason(native, called=self._calls > 0),
            native_finish_reason=native,
            stop_sequence=answer.text_of(end.get("stop_sequence")),
        )
        events.append(pb.CompletionEvent(choice_finished=ended))
        usage = read_usage(self._counts, self._request, self._size)
        finished = pb.Finished(usage=usage, extra_json=json_text.write_object(self._extras))
        events.append(pb.CompletionEvent(finished=finished))


def _arguments(block: _Block, piece: str) -> pb.CompletionEvent:
    return pb.CompletionEvent(tool_call=pb.ToolCallDelta(item=block.item, index=block.call, arguments=piece))


def _native(kind: str, event: Json) -> pb.CompletionEvent:
    native = pb.NativeEvent(dialect=pb.DIALECT_ANTHROPIC_MESSAGES, type=kind, json=json_text.write(event))
    return pb.CompletionEvent(native=native)
