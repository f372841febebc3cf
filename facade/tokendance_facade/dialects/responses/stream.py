"""Canonical events as the events of the Responses API, numbered from 0; plain text is written by hand.

The beginning (`response.created`, `response.in_progress`) is held back until there is something to say, so that a
failure before it can still be an HTTP answer; or until somebody must be told that the answer is on its way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from tokendance.gateway.v1 import completion_pb2 as pb
from tokendance_facade.dialects.documents import Document, extra_fields
from tokendance_facade.dialects.media import encode_base64
from tokendance_facade.dialects.responses import output
from tokendance_facade.dialects.responses.failures import error_event, failed_error
from tokendance_facade.dialects.responses.open_items import OpenCall, OpenItem, OpenMessage, OpenReasoning
from tokendance_facade.dialects.responses.request import ResponsesCall

DONE = b"data: [DONE]\n\n"

_TEXT = b'event: response.output_text.delta\ndata: {"type":"response.output_text.delta","sequence_number":%d'
_TEXT_END = b',"logprobs":[]}\n\n'


class ResponsesStreamEncoder:
    """Encodes one stream: each item from its beginning to its end, and at last the whole answer and `[DONE]`.

    `spare_id` is the answer's id where it must begin before its upstream has; `now` returns seconds since 1970.
    Of a provider that does not say where its items begin and end, what is said ends where a call or a thought begins.
    """

    def __init__(self, call: ResponsesCall, *, spare_id: str, now: Callable[[], int]) -> None:
        self._settings = call.settings
        self._asked_model = call.completion.model
        self._own_warnings = call.warnings
        self._spare_id = spare_id
        self._now = now
        self._out: list[bytes] = []
        self._sequence = 0
        self._begun = False
        self._about: Document = {}
        self._started: pb.Started | None = None
        self._extra: Document = {}
        self._said: dict[int, pb.ItemStarted] = {}
        self._open: dict[int, OpenItem] = {}
        # What is being said or thought, of a provider that will not say where it ends; there is one such item at most.
        self._loose: int | None = None
        self._done: dict[int, Document] = {}
        self._next = 0
        self._incomplete = ""
        self.finished = False

    @property
    def warnings(self) -> Sequence[pb.Warning]:
        """What was left out or changed, as known once the stream has started."""
        told = self._started.warnings if self._started is not None else ()
        return (*self._own_warnings, *told)

    def feed(self, events: Iterable[pb.CompletionEvent]) -> bytes:
        """Return the SSE bytes of events that came together; empty where nothing is to be sent yet."""
        for event in events:
            kind = event.WhichOneof("event")
            if kind == "text":
                delta = event.text
                item = self._open.get(delta.item)
                if (
                    isinstance(item, OpenMessage)
                    and item.text_key == delta.part
                    and not (delta.logprobs or delta.extra_json or delta.choice)
                ):
                    text = delta.text
                    item.say(text)
                    self._out += (_TEXT % self._sequence, item.text_head, output.dumps(text), _TEXT_END)
                    self._sequence += 1
                elif not delta.choice:
                    self._text(delta)
            elif kind is not None and not getattr(getattr(event, kind), "choice", 0):
                # This dialect has one answer; others cannot be asked for in it.
                self._other(kind, event)
        return self._taken()

    def keep_alive(self) -> bytes:
        """Return what tells that the answer is on its way: its beginning, or an event that says nothing."""
        if not self._begun:
            self._begin()
        else:
            self._emit("keepalive", {})
        return self._taken()

    def fail(self, error: Document, retry_after_s: int | None) -> bytes:
        """Return the end of an answer that fails; `error` is the error object of an HTTP answer."""
        if not self._begun:
            self._begin()
        self._event("error", error_event(error, self._sequence))
        self._sequence += 1
        self._emit("response.failed", {"response": self._response("failed", error=failed_error(error, retry_after_s))})
        self._out.append(DONE)
        self.finished = True
        return self._taken()

    def _other(self, kind: str, event: pb.CompletionEvent) -> None:
        if kind == "started":
            self._started = event.started
            self._extra = extra_fields(event.started.extra_json) if self._same_dialect else {}
        elif kind == "tool_call":
            self._tool_call(event.tool_call)
        elif kind == "reasoning":
            self._reasoning(event.reasoning)
        elif kind == "refusal":
            self._message(event.refusal.item).refuse(self._emit, event.refusal)
        elif kind == "citation":
            cited = output.annotation(event.citation.citation, same_dialect=self._same_dialect)
            self._message(event.citation.item).cite(self._emit, event.citation.part, cited)
        elif kind == "audio":
            if event.audio.transcript:
                self._text(pb.TextDelta(item=event.audio.item, text=event.audio.transcript))
        elif kind == "image":
            self._image(event.image)
        elif kind == "item_started":
            self._item_started(event.item_started)
        elif kind == "item_finished":
            ended = event.item_finished
            self._close(ended.item, ended.status, ended.extra_json)
            self._said.pop(ended.item, None)
        elif kind == "native":
            self._native(event.native)
        elif kind == "choice_finished":
            self._choice_finished(event.choice_finished)
        elif kind == "finished":
            self._finish(event.finished)

    def _text(self, delta: pb.TextDelta) -> None:
        extra_json = delta.extra_json if self._same_dialect else ""
        self._message(delta.item).piece(self._emit, delta, extra_json)

    def _message(self, number: int) -> OpenMessage:
        item = self._open.get(number)
        if isinstance(item, OpenMessage):
            return item
        index, name, explicit = self._place(number, "message")
        said = self._said.get(number)
        message = OpenMessage(index, name, said.phase if said is not None else "", explicit=explicit)
        self._opened(number, message)
        return message

    def _tool_call(self, delta: pb.ToolCallDelta) -> None:
        item = self._open.get(delta.item)
        if not isinstance(item, OpenCall) or delta.name:
            kind = "custom_tool_call" if delta.kind == pb.TOOL_KIND_CUSTOM else "function_call"
            index, name, explicit = self._place(delta.item, kind)
            item = OpenCall(index, name, delta, explicit=explicit)
            self._opened(delta.item, item)
        item.more(self._emit, delta.arguments)

    def _reasoning(self, delta: pb.ReasoningDelta) -> None:
        self._thought(delta.item).more(self._emit, delta)

    def _thought(self, number: int) -> OpenReasoning:
        item = self._open.get(number)
        if isinstance(item, OpenReasoning):
            return item
        index, name, explicit = self._place(number, "reasoning")
        thought = OpenReasoning(index, name, explicit=explicit, same_dialect=self._same_dialect)
        self._opened(number, thought)
        return thought

    def _image(self, image: pb.ImageDelta) -> None:
        if image.partial:
            return
        index, name, _ = self._place(image.item, "image")
        item = output.image_item(name, image, encode_base64(image.data))
        self._begin_once()
        self._emit("response.output_item.added", {"output_index": index, "item": {**item, "result": None}})
        self._emit("response.output_item.done", {"output_index": index, "item": item})
        self._done[index] = item

    def _item_started(self, started: pb.ItemStarted) -> None:
        """Begin what needs no more to begin; a call begins with its name."""
        self._said[started.item] = started
        if self._same_dialect:
            if started.type == "message":
                self._message(started.item)
            elif started.type == "reasoning":
                self._thought(started.item)

    def _place(self, number: int, kind: str) -> tuple[int, str, bool]:
        """Return the place, the id and whether its end will be told, of an item that begins now."""
        if number in self._open:
            self._close(number)
        explicit = number in self._said
        if not explicit and self._loose is not None:
            self._close(self._loose)
        self._begin_once()
        index = number if self._same_dialect and number not in self._done else self._next
        self._next = max(self._next, index + 1)
        given = self._said[number].id if explicit and self._same_dialect else ""
        return index, given or output.item_id(self._about["id"], kind, index), explicit

    def _opened(self, number: int, item: OpenItem) -> None:
        self._open[number] = item
        if not item.explicit and not isinstance(item, OpenCall):
            self._loose = number
        item.begin(self._emit)

    def _close(self, number: int, status: str = "", extra_json: str = "") -> None:
        item = self._open.pop(number, None)
        if number == self._loose:
            self._loose = None
        if item is None:
            return
        if not self._same_dialect:
            status, extra_json = status or "completed", ""
        elif not status and not isinstance(item, OpenReasoning):
            status = "completed"
        self._done[item.index] = item.end(self._emit, status, extra_json)

    def _native(self, native: pb.NativeEvent) -> None:
        """Pass on an event that only this dialect knows, under this stream's own numbers."""
        if native.dialect != output.RESPONSES or not self._same_dialect:
            return
        self._begin_once()
        event = output.parse(native.json)
        index, item = event.get("output_index"), event.get("item")
        if type(index) is int and index >= 0:
            self._next = max(self._next, index + 1)
            if native.type == "response.output_item.done" and type(item) is dict:
                self._done[index] = item
        self._emit(native.type, {name: value for name, value in event.items() if name not in _NUMBERED})

    def _choice_finished(self, end: pb.ChoiceFinished) -> None:
        self._incomplete = output.incomplete_reason(
            end.finish_reason, end.native_finish_reason, same_dialect=self._same_dialect
        )
        left = sorted(self._open, key=lambda number: self._open[number].index)
        for number in left:
            cut = self._incomplete and number == left[-1]
            self._close(number, "incomplete" if cut else "")

    def _finish(self, finished: pb.Finished) -> None:
        self._begin_once()
        for number in sorted(self._open):
            self._close(number)
        self.finished = True
        status = "incomplete" if self._incomplete else "completed"
        if self._same_dialect:
            self._extra |= extra_fields(finished.extra_json)
        usage = output.usage_document(finished.usage, finished.account, same_dialect=self._same_dialect)
        self._emit(f"response.{status}", {"response": self._response(status, usage=usage)})
        self._out.append(DONE)

    def _begin_once(self) -> None:
        if not self._begun:
            self._begin()

    def _begin(self) -> None:
        self._begun = True
        started = self._started
        self._about = {
            "id": output.response_id(started.id) if started is not None else self._spare_id,
            "model": started.model if started is not None else self._asked_model,
            "created_at": started.created if started is not None else self._now(),
        }
        response = self._response("in_progress")
        self._emit("response.created", {"response": response})
        self._emit("response.in_progress", {"response": response})

    def _response(self, status: str, *, usage: Document | None = None, error: Document | None = None) -> Document:
        return output.response_document(
            self._settings,
            self._about,
            status=status,
            output=[self._done[index] for index in sorted(self._done)],
            usage=usage,
            error=error,
            incomplete=self._incomplete if status == "incomplete" else "",
            completed_at=max(self._now(), self._about["created_at"]) if status == "completed" else None,
            service_tier=self._started.service_tier if self._started is not None else "",
            extra=self._extra,
        )

    def _emit(self, kind: str, fields: Document) -> None:
        self._event(kind, {"type": kind, "sequence_number": self._sequence, **fields})
        self._sequence += 1

    def _event(self, kind: str, document: Document) -> None:
        self._out.append(b"event: %b\ndata: %b\n\n" % (kind.encode(), output.dumps(document)))

    def _taken(self) -> bytes:
        out = b"".join(self._out)
        self._out.clear()
        return out

    @property
    def _same_dialect(self) -> bool:
        return self._started is not None and self._started.dialect == output.RESPONSES


_NUMBERED = frozenset({"type", "sequence_number"})
