"""Canonical events as Messages events: the hot path, so plain text is written by hand."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import orjson

from tokendance.gateway.v1 import completion_pb2 as pb
from tokendance_facade.dialects.documents import Document, add_extra, answer_id, extra_fields
from tokendance_facade.dialects.messages.answer import citation_document
from tokendance_facade.dialects.messages.open_blocks import Block, OpenBlocks, event
from tokendance_facade.dialects.messages.thoughts import signature_of
from tokendance_facade.dialects.messages.usage import stop_fields, usage_document

PING = event("ping", {})

_BLOCK_FIELDS = "block_fields"
_TEXT_DELTA = (
    b'event: content_block_delta\ndata: {"type":"content_block_delta","index":%d,'
    b'"delta":{"type":"text_delta","text":%b}}\n\n'
)
_OURS = frozenset({"message_start", "message_delta", "message_stop", "ping", "error"})

_dumps = orjson.dumps


class MessagesStreamEncoder:
    """Encodes one stream. `message_start` is held back until there is something to say.

    Only the first choice is told, for the dialect has no others.
    """

    def __init__(self) -> None:
        self._blocks = OpenBlocks()
        self._started = pb.Started()
        self._said = False
        self._same = False
        self._refused = False
        self._ended = pb.ChoiceFinished()
        self._fields: dict[int, Document] = {}
        self._calls: dict[int, int] = {}
        self._open_text = -1
        self.finished = False

    @property
    def warnings(self) -> Sequence[pb.Warning]:
        """What was left out or changed, as known once the stream has started."""
        return self._started.warnings

    def feed(self, events: Iterable[pb.CompletionEvent]) -> bytes:
        """Return the SSE bytes of events that came together; empty where nothing is to be sent yet."""
        out: list[bytes] = []
        for one in events:
            kind = one.WhichOneof("event")
            if kind == "text":
                delta = one.text
                if delta.item == self._open_text and not delta.choice:
                    out.append(_TEXT_DELTA % (self._blocks.index, _dumps(delta.text)))
                elif not delta.choice:
                    self._text(delta.item, delta.text, out)
            elif kind is not None:
                self._other(kind, one, out)
        if out and not self._said:
            self._said = True
            out.insert(0, self._message_start() + PING)
        return b"".join(out)

    def _other(self, kind: str, one: pb.CompletionEvent, out: list[bytes]) -> None:
        if kind == "started":
            self._started = one.started
            self._same = one.started.dialect == pb.DIALECT_ANTHROPIC_MESSAGES
        elif kind == "finished":
            self._finish(one.finished, out)
        elif kind == "native":
            self._native(one.native, out)
        elif getattr(getattr(one, kind), "choice", 0):
            return
        elif kind == "tool_call":
            self._tool_call(one.tool_call, out)
        elif kind == "reasoning":
            self._reasoning(one.reasoning, out)
        elif kind == "refusal":
            self._refused = True
            self._text(one.refusal.item, one.refusal.text, out)
        elif kind == "citation":
            self._citation(one.citation, out)
        elif kind == "item_finished":
            self._item_finished(one.item_finished.item, out)
        elif kind == "choice_finished":
            self._ended = one.choice_finished
            self._open_text = -1
            self._blocks.finish_all(out)

    def _message_start(self) -> bytes:
        started = self._started
        message: Document = {
            "id": answer_id(started.id, "msg_"),
            "type": "message",
            "role": "assistant",
            "model": started.model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": usage_document(started.usage, None, same_dialect=self._same),
        }
        if self._same and started.extra_json:
            add_extra(message, started.extra_json)
        return event("message_start", {"message": message})

    def _text_block(self, item: int, out: list[bytes]) -> Block:
        """Return the block of what is said, a new one where something else was told since."""
        key = ("text", item)
        block = self._blocks.find(key, latest=True)
        if block is None:
            self._open_text = -1
            block = self._blocks.begin(Block(key, self._start(item, {"type": "text", "text": ""})), out)
        return block

    def _text(self, item: int, text: str, out: list[bytes]) -> None:
        if text:
            block = self._text_block(item, out)
            self._blocks.add(block, {"type": "text_delta", "text": text}, out)
            if self._blocks.is_open(block.key):
                self._open_text = item

    def _citation(self, delta: pb.CitationDelta, out: list[bytes]) -> None:
        citation = citation_document(delta.citation) if self._same else None
        if citation is not None:
            block = self._text_block(delta.item, out)
            self._blocks.add(block, {"type": "citations_delta", "citation": citation}, out)

    def _reasoning(self, delta: pb.ReasoningDelta, out: list[bytes]) -> None:
        if delta.redacted:
            if delta.encrypted_content:
                start = self._start(delta.item, {"type": "redacted_thinking", "data": delta.encrypted_content})
                self._begin(Block(("sealed", delta.item), start), out)
            return
        key = ("thinking", delta.item)
        block = self._blocks.find(key, latest=True)
        if block is None:
            start = self._start(delta.item, {"type": "thinking", "thinking": "", "signature": ""})
            block = self._begin(Block(key, start), out)
        thought = delta.text or delta.summary
        if thought:
            self._blocks.add(block, {"type": "thinking_delta", "thinking": thought}, out)
        signature = signature_of(delta)
        if signature:
            self._blocks.add(block, {"type": "signature_delta", "signature": signature}, out)

    def _tool_call(self, delta: pb.ToolCallDelta, out: list[bytes]) -> None:
        key = ("call", delta.index)
        block = self._blocks.find(key)
        if block is None:
            start = {"type": "tool_use", "id": delta.id, "name": delta.name, "input": {}}
            self._calls[delta.item] = delta.index
            block = self._begin(Block(key, self._start(delta.item, start), patient=True), out)
        if delta.arguments:
            block.arguments.append(delta.arguments)
            self._blocks.add(block, {"type": "input_json_delta", "partial_json": delta.arguments}, out)

    def _item_finished(self, item: int, out: list[bytes]) -> None:
        for key in (("text", item), ("thinking", item), ("sealed", item), ("call", self._calls.get(item, -1))):
            block = self._blocks.find(key)
            if block is not None:
                self._end(block, out)

    def _native(self, native: pb.NativeEvent, out: list[bytes]) -> None:
        """Tell what only this dialect knows, under this stream's own numbers."""
        if native.dialect != pb.DIALECT_ANTHROPIC_MESSAGES or native.type in _OURS:
            return
        fields = extra_fields(native.json)
        item = fields.get("index")
        item = item if type(item) is int else -1
        if native.type == _BLOCK_FIELDS:
            self._fields[item] = fields.get("content_block") or {}
        elif native.type == "content_block_start" and type(fields.get("content_block")) is dict:
            self._begin(Block(("native", item), fields["content_block"], patient=True), out)
        elif native.type == "content_block_delta" and type(fields.get("delta")) is dict:
            block = self._block_of(item)
            if block is not None:
                self._blocks.add(block, fields["delta"], out)
        elif native.type == "content_block_stop":
            block = self._blocks.find(("native", item))
            if block is not None:
                self._end(block, out)
        elif native.type not in ("content_block_start", "content_block_delta", _BLOCK_FIELDS):
            out.append(event(native.type, {name: value for name, value in fields.items() if name != "type"}))

    def _block_of(self, item: Any) -> Block | None:
        found = (self._blocks.find((kind, item)) for kind in ("native", "text", "thinking"))
        return next((block for block in found if block is not None), None)

    def _begin(self, block: Block, out: list[bytes]) -> Block:
        self._open_text = -1
        return self._blocks.begin(block, out)

    def _end(self, block: Block, out: list[bytes]) -> None:
        self._open_text = -1
        self._blocks.finish(block, out)

    def _start(self, item: int, start: Document) -> Document:
        """Return a block as it begins, with the fields that only this dialect knows."""
        if self._same and item in self._fields:
            for name, value in self._fields.pop(item).items():
                start.setdefault(name, value)
        return start

    def _finish(self, finished: pb.Finished, out: list[bytes]) -> None:
        self.finished = True
        self._open_text = -1
        self._blocks.finish_all(out)
        ended = self._ended
        delta = stop_fields(
            ended.finish_reason,
            ended.native_finish_reason,
            ended.stop_sequence,
            same_dialect=self._same,
            refused=self._refused,
        )
        document: Document = {
            "delta": delta,
            "usage": usage_document(finished.usage, finished.account, same_dialect=self._same),
        }
        if self._same and finished.extra_json:
            add_extra(document, finished.extra_json)
        out += (event("message_delta", document), event("message_stop", {}))
