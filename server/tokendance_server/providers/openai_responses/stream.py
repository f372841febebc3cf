"""A streamed answer of POST /responses: bytes to canonical events, as they come. Pure.

Events that only repeat what came before (`…done`, parts that begin) are read for what did not come before, because
some servers send nothing else. What only this dialect knows is handed on whole.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import msgspec

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import completion_pb2 as pb
from tokendance_server.providers import json_text
from tokendance_server.providers.estimates import size_of
from tokendance_server.providers.openai.answer import (
    MOST_SECONDS,
    arguments_of,
    int_of,
    interrupted,
    read_logprobs,
    text_of,
    unknown_of,
    unreadable,
)
from tokendance_server.providers.openai.errors import error_of_document, error_of_event
from tokendance_server.providers.openai_responses import answer
from tokendance_server.providers.openai_responses.numbering import MOST_ITEMS, Items
from tokendance_server.providers.openai_responses.usage import read_usage
from tokendance_server.providers.sse import DEFAULT_EVENT_BYTES, SseParser

Json = dict[str, Any]
Events = list[pb.CompletionEvent]

_LIFECYCLE = frozenset({"response.created", "response.in_progress", "response.queued"})
_ENDS = frozenset({"response.completed", "response.incomplete", "response.failed", "response.cancelled"})
# Signs of life, and what the gateway's own encoder says anew from what it has heard.
_SILENT = frozenset(
    {
        "keepalive", "ping", "response.content_part.added", "response.content_part.done",
        "response.output_text.done", "response.refusal.done", "response.function_call_arguments.done",
        "response.custom_tool_call_input.done", "response.reasoning_summary_part.added",
        "response.reasoning_summary_part.done", "response.reasoning_summary_text.done",
        "response.reasoning_text.done", "response.reasoning.done",
    }
)  # fmt: skip
_EVENT_NAME = re.compile(r"[A-Za-z0-9_.:-]{1,128}")
_DELTA_FIELDS = frozenset(
    {"type", "sequence_number", "item_id", "output_index", "content_index", "delta", "logprobs", "obfuscation"}
)


class _PlainDelta(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """What nearly every event is: a piece of text and nothing else. Anything more fails to decode."""

    type: str
    output_index: int
    content_index: int
    delta: str
    item_id: str = ""
    sequence_number: int = 0
    obfuscation: str = ""
    logprobs: list[None] | None = None


_decode_plain = msgspec.json.Decoder(_PlainDelta).decode


class ResponsesStreamDecoder:
    """Decodes one streamed answer. `done` is True once nothing of use follows: see StreamDecoder.

    An answer is complete with `response.completed` or `response.incomplete`; a body that ends before raises
    stream_interrupted. Items are numbered in the order of their beginning, whatever index the server gives them: some
    give all of them the same one.
    """

    def __init__(
        self, request: pb.CompletionRequest, mint: Callable[[], str], event_bytes: int = DEFAULT_EVENT_BYTES
    ) -> None:
        self.done = False
        self._request = request
        self._mint = mint
        self._sse = SseParser(event_bytes)
        self._failure: GatewayError | None = None
        self._started = False
        self._items = Items()
        self._calls = 0
        self._size = 0
        # What reads a piece of an item, and the type of that item; a call cannot begin with a piece, so it has none.
        self._handlers: dict[str, tuple[Callable[[int, Json, Events], None], str]] = {
            "response.output_text.delta": (self._text, "message"),
            "response.output_text.annotation.added": (self._annotation, "message"),
            "response.refusal.delta": (self._refusal, "message"),
            "response.function_call_arguments.delta": (self._arguments, ""),
            "response.custom_tool_call_input.delta": (self._arguments, ""),
            "response.reasoning_summary_text.delta": (self._summary, "reasoning"),
            "response.reasoning_text.delta": (self._thought, "reasoning"),
            "response.reasoning.delta": (self._thought, "reasoning"),
        }
        self._complete: dict[str, Callable[[int, Json, Events], str]] = {
            "message": self._complete_message,
            "function_call": self._complete_call,
            "custom_tool_call": self._complete_call,
            "reasoning": self._complete_reasoning,
        }

    def feed(self, data: bytes) -> Events:
        """Return what these bytes complete. Raises provider_error, stream_interrupted or what the upstream tells."""
        events: Events = []
        try:
            for name, payload in self._sse.feed(data):
                if self.done:
                    break
                if not self._feed_plain(payload, events):
                    self._feed_any(name, payload, events)
        except GatewayError as failure:
            self.done = True
            if not events:
                raise
            # What came before the failure is told first.
            self._failure = failure
        return events

    def close(self) -> Events:
        """Return nothing more; raises where the answer was not complete."""
        if self._failure is not None:
            raise self._failure
        if not self.done:
            raise interrupted() if self._started else unreadable()
        return []

    def _feed_plain(self, payload: bytes, events: Events) -> bool:
        """Read a plain piece of text; False, and nothing done, where it is anything else."""
        if not payload.startswith(b'{"type":"response.output_text.delta"'):
            return False
        try:
            piece = _decode_plain(payload)
        except json_text.UNREADABLE:
            return False
        number = self._items.at(piece.output_index)
        if number is None or not 0 <= piece.content_index < MOST_ITEMS:
            return False
        item = self._items[number]
        if item.kind != "message" or item.id != piece.item_id or item.ended:
            return False
        item.heard.add(("text", piece.content_index))
        self._size += size_of(piece.delta)
        text = pb.TextDelta(item=number, part=piece.content_index, text=piece.delta)
        events.append(pb.CompletionEvent(text=text))
        return True

    def _feed_any(self, name: bytes, payload: bytes, events: Events) -> None:
        if payload.startswith(b"[DONE]"):
            raise interrupted() if self._started else unreadable()
        if not payload.strip():
            return
        try:
            event = json_text.read_lenient(payload)
        except json_text.UNREADABLE:
            raise unreadable() from None
        if name == b"error":
            raise error_of_event(event)
        if not isinstance(event, dict):
            raise unreadable()
        kind = text_of(event.get("type")) or name.decode("latin-1")
        if kind == "error" or (not kind and (event.get("error") or event.get("detail"))):
            raise error_of_document(event) or error_of_event(event)
        self._feed_event(kind, event, events)

    def _feed_event(self, kind: str, event: Json, events: Events) -> None:
        if kind in _SILENT:
            return
        response = event.get("response")
        about = response if isinstance(response, dict) else {}
        if not self._started:
            self._start(about, events)
        if kind in _LIFECYCLE:
            return
        if kind in _ENDS:
            self._end(kind, about, events)
            return
        index = int_of(event.get("output_index"), -1)
        item = event.get("item")
        handler = self._handlers.get(kind)
        if kind == "response.output_item.added" and isinstance(item, dict):
            self._item_added(index, item, event, events)
        elif kind == "response.output_item.done" and isinstance(item, dict):
            self._item_done(index, item, event, events)
        elif handler is None or index < 0:
            self._native(kind, self._numbered(index, event), events)
        else:
            read, item_kind = handler
            read(self._item_of(index, item_kind, event, events), event, events)

    def _start(self, about: Json, events: Events) -> None:
        self._started = True
        started = pb.Started(
            id=text_of(about.get("id")),
            model=text_of(about.get("model")),
            created=int_of(about.get("created_at"), below=MOST_SECONDS),
            service_tier=text_of(about.get("service_tier")),
            dialect=answer.DIALECT,
            extra_json=answer.extra_of(about),
        )
        events.append(pb.CompletionEvent(started=started))

    def _end(self, kind: str, about: Json, events: Events) -> None:
        if kind in ("response.failed", "response.cancelled"):
            raise answer.failure_of(about.get("error"))
        output = about.get("output")
        for place, item in enumerate(output if isinstance(output, list) else ()):
            # Some servers say it all at once, at the end.
            if isinstance(item, dict) and (place >= len(self._items) or not self._items[place].ended):
                index = self._items.index_of(place)
                self._item_done(index, item, {"item": item}, events)
        document = {"status": kind.removeprefix("response."), **about}
        reason, native = answer.finish_of(document, called=bool(self._calls))
        finished = pb.ChoiceFinished(finish_reason=reason, native_finish_reason=native)
        events.append(pb.CompletionEvent(choice_finished=finished))
        usage = read_usage(about.get("usage"), self._request, self._size)
        last = pb.Finished(usage=usage, extra_json=answer.extra_of(about))
        events.append(pb.CompletionEvent(finished=last))
        self.done = True

    def _item_of(self, index: int, kind: str, event: Json, events: Events) -> int:
        """Return the number of the item that a piece belongs to, which begins where its beginning was not told."""
        name = text_of(event.get("item_id"))
        number = self._items.find(index, name)
        if number is not None and not self._items[number].ended and (not kind or self._items[number].kind == kind):
            return number
        if not kind:
            raise unreadable()
        return self._item_added(index, {"type": kind, "id": name}, {}, events)

    def _numbered(self, index: int, event: Json) -> Json:
        """Return an event that only this dialect knows with the number of its item."""
        number = self._items.find(index, text_of(event.get("item_id")))
        return event if number is None else {**event, "output_index": number}

    def _item_added(self, index: int, item: Json, event: Json, events: Events) -> int:
        """Begin an item, unless it has begun already; return its number."""
        kind, name = text_of(item.get("type")), text_of(item.get("id"))
        found = self._items.find_open(index, name)
        if found is not None:
            return found
        number = self._items.begin(index, name, kind, self._calls)
        if kind not in answer.KNOWN_ITEMS:
            self._native("response.output_item.added", {**event, "output_index": number, "item": item}, events)
            return number
        started = pb.ItemStarted(item=number, id=name, type=kind, phase=text_of(item.get("phase")))
        events.append(pb.CompletionEvent(item_started=started))
        if kind in answer.CALLS:
            self._begin_call(number, item, events)
        return number

    def _begin_call(self, index: int, item: Json, events: Events) -> None:
        custom = item.get("type") == "custom_tool_call"
        name = text_of(item.get("name"))
        if not name:
            raise unreadable()
        piece = text_of(item.get("input")) if custom else arguments_of(item.get("arguments"))
        first = pb.ToolCallDelta(
            item=index,
            index=self._calls,
            id=text_of(item.get("call_id")) or self._mint(),
            name=name,
            kind=pb.TOOL_KIND_CUSTOM if custom else pb.TOOL_KIND_FUNCTION,
            arguments=piece,
            namespace=text_of(item.get("namespace")),
        )
        self._calls += 1
        self._size += size_of(name) + size_of(piece)
        if piece:
            self._items[index].heard.add(("call", 0))
        events.append(pb.CompletionEvent(tool_call=first))

    def _item_done(self, index: int, item: Json, event: Json, events: Events) -> None:
        name = text_of(item.get("id"))
        number = self._items.find(index, name)
        if number is None or (self._items[number].ended and not (name and self._items[number].id == name)):
            number = self._item_added(index, {**item, "content": [], "arguments": "", "input": ""}, event, events)
        known = self._items[number]
        if known.ended:
            return
        known.ended = True
        if known.kind not in answer.KNOWN_ITEMS:
            self._native("response.output_item.done", {**event, "output_index": number, "item": item}, events)
            return
        extra_json = self._complete[known.kind](number, item, events)
        finished = pb.ItemFinished(item=number, status=text_of(item.get("status")), extra_json=extra_json)
        events.append(pb.CompletionEvent(item_finished=finished))

    def _complete_message(self, index: int, item: Json, events: Events) -> str:
        content = item.get("content")
        for number, part in enumerate(content if isinstance(content, list) else ()):
            if not isinstance(part, dict):
                continue
            where = {"content_index": number, "logprobs": part.get("logprobs")}
            if part.get("type") == "refusal":
                if ("refusal", number) not in self._items[index].heard:
                    self._refusal(index, {**where, "delta": part.get("refusal")}, events)
                continue
            if ("text", number) not in self._items[index].heard:
                self._text(index, {**where, "delta": part.get("text")}, events)
            annotations = part.get("annotations")
            if isinstance(annotations, list) and ("annotation", number) not in self._items[index].heard:
                for annotation in annotations:
                    self._annotation(index, {**where, "annotation": annotation}, events)
        return json_text.write_object(answer.message_extra(item))

    def _complete_call(self, index: int, item: Json, events: Events) -> str:
        custom = item.get("type") == "custom_tool_call"
        if ("call", 0) not in self._items[index].heard:
            piece = text_of(item.get("input")) if custom else arguments_of(item.get("arguments"))
            self._arguments(index, {"delta": piece}, events)
        return answer.call_extra(item)

    def _complete_reasoning(self, index: int, item: Json, events: Events) -> str:
        heard = self._items[index].heard
        for number, text in enumerate(answer.texts_of(item.get("summary"))):
            if ("summary", number) not in heard:
                self._summary(index, {"summary_index": number, "delta": text}, events)
        whole = "".join(answer.texts_of(item.get("content")))
        if whole and ("thought", 0) not in heard:
            self._thought(index, {"delta": whole}, events)
        encrypted = text_of(item.get("encrypted_content"))
        if encrypted:
            events.append(pb.CompletionEvent(reasoning=pb.ReasoningDelta(item=index, encrypted_content=encrypted)))
        return json_text.write_object(answer.reasoning_extra(item))

    def _text(self, index: int, event: Json, events: Events) -> None:
        part = int_of(event.get("content_index"), below=MOST_ITEMS)
        text = self._piece(index, "message", ("text", part), event)
        piece = pb.TextDelta(
            item=index,
            part=part,
            text=text,
            logprobs=read_logprobs(event.get("logprobs")),
            extra_json=json_text.write_object(unknown_of(event, _DELTA_FIELDS)),
        )
        if text or piece.logprobs:
            events.append(pb.CompletionEvent(text=piece))

    def _refusal(self, index: int, event: Json, events: Events) -> None:
        part = int_of(event.get("content_index"), below=MOST_ITEMS)
        text = self._piece(index, "message", ("refusal", part), event)
        if text:
            events.append(pb.CompletionEvent(refusal=pb.RefusalDelta(item=index, part=part, text=text)))

    def _annotation(self, index: int, event: Json, events: Events) -> None:
        annotation = event.get("annotation")
        if not isinstance(annotation, dict):
            return
        part = int_of(event.get("content_index"), below=MOST_ITEMS)
        self._piece(index, "message", ("annotation", part), {})
        cited = pb.CitationDelta(item=index, part=part, citation=answer.read_citation(annotation))
        events.append(pb.CompletionEvent(citation=cited))

    def _arguments(self, index: int, event: Json, events: Events) -> None:
        item = self._items[index]
        if item.kind not in answer.CALLS:
            raise unreadable()
        piece = arguments_of(event.get("delta"))
        if piece:
            item.heard.add(("call", 0))
            self._size += size_of(piece)
            more = pb.ToolCallDelta(item=index, index=item.call, arguments=piece)
            events.append(pb.CompletionEvent(tool_call=more))

    def _summary(self, index: int, event: Json, events: Events) -> None:
        number = int_of(event.get("summary_index"), below=MOST_ITEMS)
        text = self._piece(index, "reasoning", ("summary", number), event)
        if text:
            piece = pb.ReasoningDelta(item=index, summary=text, summary_index=number)
            events.append(pb.CompletionEvent(reasoning=piece))

    def _thought(self, index: int, event: Json, events: Events) -> None:
        text = self._piece(index, "reasoning", ("thought", 0), event)
        if text:
            events.append(pb.CompletionEvent(reasoning=pb.ReasoningDelta(item=index, text=text)))

    def _piece(self, index: int, kind: str, place: tuple[str, int], event: Json) -> str:
        """Return the text of a piece of an item of this kind."""
        item = self._items[index]
        if item.kind != kind:
            raise unreadable()
        text = text_of(event.get("delta"))
        item.heard.add(place)
        self._size += size_of(text)
        return text

    def _native(self, kind: str, event: Json, events: Events) -> None:
        if _EVENT_NAME.fullmatch(kind):
            native = pb.NativeEvent(dialect=answer.DIALECT, type=kind, json=json_text.write(event))
            events.append(pb.CompletionEvent(native=native))
