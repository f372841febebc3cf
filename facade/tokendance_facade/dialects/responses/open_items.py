"""Items of a streamed answer while they grow: what has come of each, and the events that begin and end it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from tokendance.gateway.v1 import completion_pb2 as pb
from tokendance_facade.dialects.documents import Document, add_extra
from tokendance_facade.dialects.responses import output, thoughts

Emit = Callable[[str, Document], None]
"""Sends one event: its type, and its fields beside type and sequence number."""


class OpenItem(Protocol):
    """An item that has begun and not ended."""

    index: int
    """Its place in the answer."""
    explicit: bool
    """Whether its upstream said that it began, and so will say that it ended."""

    def begin(self, emit: Emit) -> None:
        """Send its beginning."""

    def end(self, emit: Emit, status: str, extra_json: str) -> Document:
        """Send its end; return it whole."""


class _TextPart:
    """A text or a refusal while it grows."""

    __slots__ = ("annotations", "logprobs", "pieces", "refusal")

    def __init__(self, refusal: bool) -> None:
        self.refusal = refusal
        self.pieces: list[str] = []
        self.annotations: list[Document] = []
        self.logprobs: list[Document] = []

    def document(self) -> Document:
        """Return what has come."""
        text = "".join(self.pieces)
        if self.refusal:
            return {"type": "refusal", "refusal": text}
        return output.text_part(text, self.annotations, self.logprobs)


class OpenMessage:
    """What the model says. A part ends where the next one begins."""

    def __init__(self, index: int, name: str, phase: str, *, explicit: bool) -> None:
        self.index = index
        self.explicit = explicit
        self._name = name
        self._phase = phase
        self._parts: list[_TextPart] = []
        self._key: tuple[bool, int] | None = None
        self.text_head = b""
        """What stands between the sequence number and the text of a plain piece; empty where no text is open."""
        self.text_key = -1

    def begin(self, emit: Emit) -> None:
        """Send its beginning."""
        item = output.message_item(self._name, "in_progress", [], self._phase)
        emit("response.output_item.added", {"output_index": self.index, "item": item})

    def part(self, emit: Emit, number: int, *, refusal: bool) -> _TextPart:
        """Return the part that a piece belongs to, begun if need be."""
        key = (refusal, number)
        if key == self._key:
            return self._parts[-1]
        self._end_part(emit)
        part = _TextPart(refusal)
        self._parts.append(part)
        self._key = key
        self.text_key = -1 if refusal else number
        where = b'"item_id":%b,"output_index":%d,"content_index":%d' % (
            output.dumps(self._name),
            self.index,
            len(self._parts) - 1,
        )
        self.text_head = b"" if refusal else b',%b,"delta":' % where
        emit("response.content_part.added", {**self._where(), "part": part.document()})
        return part

    def say(self, text: str) -> None:
        """Take note of a plain piece of the open text."""
        self._parts[-1].pieces.append(text)

    def piece(self, emit: Emit, delta: pb.TextDelta, extra_json: str) -> None:
        """Send a piece of text with what comes along with it."""
        part = self.part(emit, delta.part, refusal=False)
        logprobs = output.logprobs_of(delta.logprobs)
        part.pieces.append(delta.text)
        part.logprobs += logprobs
        event: Document = {**self._where(), "delta": delta.text, "logprobs": logprobs}
        add_extra(event, extra_json)
        emit("response.output_text.delta", event)

    def refuse(self, emit: Emit, delta: pb.RefusalDelta) -> None:
        """Send a piece of a refusal."""
        self.part(emit, delta.part, refusal=True).pieces.append(delta.text)
        emit("response.refusal.delta", {**self._where(), "delta": delta.text})

    def cite(self, emit: Emit, number: int, annotation: Document) -> None:
        """Send a citation."""
        part = self.part(emit, number, refusal=False)
        part.annotations.append(annotation)
        event = {**self._where(), "annotation_index": len(part.annotations) - 1, "annotation": annotation}
        emit("response.output_text.annotation.added", event)

    def end(self, emit: Emit, status: str, extra_json: str) -> Document:
        """Send its end; return it whole."""
        self._end_part(emit)
        content = [part.document() for part in self._parts]
        item = output.message_item(self._name, status, content, self._phase, extra_json)
        emit("response.output_item.done", {"output_index": self.index, "item": item})
        return item

    def _end_part(self, emit: Emit) -> None:
        if self._key is None:
            return
        self._key = None
        part = self._parts[-1]
        document = part.document()
        where = self._where()
        if part.refusal:
            emit("response.refusal.done", {**where, "refusal": document["refusal"]})
        else:
            emit("response.output_text.done", {**where, "text": document["text"], "logprobs": part.logprobs})
        emit("response.content_part.done", {**where, "part": document})

    def _where(self) -> Document:
        return {"item_id": self._name, "output_index": self.index, "content_index": len(self._parts) - 1}


class OpenCall:
    """A call of a function or a custom tool."""

    def __init__(self, index: int, name: str, first: pb.ToolCallDelta, *, explicit: bool) -> None:
        self.index = index
        self.explicit = explicit
        self._name = name
        self._custom = first.kind == pb.TOOL_KIND_CUSTOM
        self._call = pb.ToolCall(id=first.id, name=first.name, kind=first.kind, namespace=first.namespace)
        self._pieces: list[str] = []
        self._event = "response.custom_tool_call_input" if self._custom else "response.function_call_arguments"

    def begin(self, emit: Emit) -> None:
        """Send its beginning."""
        item = output.call_item(self._name, "in_progress", self._call)
        emit("response.output_item.added", {"output_index": self.index, "item": item})

    def more(self, emit: Emit, piece: str) -> None:
        """Send a piece of its arguments or input."""
        if piece:
            self._pieces.append(piece)
            emit(f"{self._event}.delta", {"item_id": self._name, "output_index": self.index, "delta": piece})

    def end(self, emit: Emit, status: str, extra_json: str) -> Document:
        """Send its end; return it whole."""
        whole = "".join(self._pieces)
        done: Document = {"item_id": self._name, "output_index": self.index}
        if self._custom:
            self._call.input = done["input"] = whole
        else:
            self._call.arguments_json = done["arguments"] = whole
            done["name"] = self._call.name
        emit(f"{self._event}.done", done)
        item = output.call_item(self._name, status, self._call, extra_json)
        emit("response.output_item.done", {"output_index": self.index, "item": item})
        return item


class OpenReasoning:
    """Reasoning: summaries, its text, and what is opaque in it."""

    def __init__(self, index: int, name: str, *, explicit: bool, same_dialect: bool) -> None:
        self.index = index
        self.explicit = explicit
        self._name = name
        self._same_dialect = same_dialect
        self._summaries: dict[int, list[str]] = {}
        self._summary = -1
        self._text: list[str] = []
        self._whole = pb.ReasoningContent()
        self._signature: list[str] = []

    def begin(self, emit: Emit) -> None:
        """Send its beginning."""
        status = "" if self._same_dialect else "in_progress"
        item = output.reasoning_item(self._name, status, pb.ReasoningContent(), "")
        emit("response.output_item.added", {"output_index": self.index, "item": item})

    def more(self, emit: Emit, delta: pb.ReasoningDelta) -> None:
        """Send a piece of it."""
        if delta.summary:
            self._summarise(emit, delta.summary_index, delta.summary)
        if delta.text:
            if not self._text:
                part = {"type": "reasoning_text", "text": ""}
                emit("response.content_part.added", {**self._where(), "part": part})
            self._text.append(delta.text)
            emit("response.reasoning_text.delta", {**self._where(), "delta": delta.text})
        if delta.signature:
            self._signature.append(delta.signature)
        if delta.encrypted_content:
            self._whole.encrypted_content = delta.encrypted_content
        if delta.redacted:
            self._whole.redacted = True

    def end(self, emit: Emit, status: str, extra_json: str) -> Document:
        """Send its end; return it whole."""
        whole = self._whole
        if self._text:
            whole.text = "".join(self._text)
            emit("response.reasoning_text.done", {**self._where(), "text": whole.text})
            part = {"type": "reasoning_text", "text": whole.text}
            emit("response.content_part.done", {**self._where(), "part": part})
        self._end_summary(emit, status)
        whole.summary.extend("".join(self._summaries[number]) for number in sorted(self._summaries))
        whole.signature = "".join(self._signature)
        encrypted = whole.encrypted_content if self._same_dialect else thoughts.pack(whole)
        item = output.reasoning_item(self._name, status, whole, encrypted, extra_json)
        emit("response.output_item.done", {"output_index": self.index, "item": item})
        return item

    def _summarise(self, emit: Emit, number: int, text: str) -> None:
        if number != self._summary:
            self._end_summary(emit, "completed")
            self._summary = number
            part = output.summary_part("")
            emit("response.reasoning_summary_part.added", {**self._summary_place(), "part": part})
        self._summaries.setdefault(number, []).append(text)
        emit("response.reasoning_summary_text.delta", {**self._summary_place(), "delta": text})

    def _end_summary(self, emit: Emit, status: str) -> None:
        if self._summary < 0:
            return
        text = "".join(self._summaries[self._summary])
        part: dict[str, Any] = output.summary_part(text)
        place = self._summary_place()
        emit("response.reasoning_summary_text.done", {**place, "text": text})
        done: Document = {**place, "part": part}
        if status == "incomplete":
            done["status"] = status
        emit("response.reasoning_summary_part.done", done)
        self._summary = -1

    def _where(self) -> Document:
        return {"item_id": self._name, "output_index": self.index, "content_index": 0}

    def _summary_place(self) -> Document:
        return {"item_id": self._name, "output_index": self.index, "summary_index": self._summary}
