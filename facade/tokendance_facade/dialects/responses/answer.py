"""A whole canonical answer as a `response` object.

Not shown: sound, of which only what is said in it appears, as text; answers beyond the first, which cannot be asked
for; and what only another dialect knows.
"""

from __future__ import annotations

from collections.abc import Sequence

import orjson

from tokendance.gateway.v1 import completion_pb2 as pb
from tokendance_facade.dialects.documents import Document, add_extra, extra_fields
from tokendance_facade.dialects.media import encode_base64
from tokendance_facade.dialects.responses import output, thoughts


def encode(completion: pb.Completion, settings: Document, *, now: int) -> bytes:
    """Return the body. `settings` are what the answer says of its request; `now` is in seconds since 1970."""
    same_dialect = completion.dialect == output.RESPONSES
    choice = completion.choices[0] if completion.choices else pb.Choice()
    incomplete = output.incomplete_reason(choice.finish_reason, choice.native_finish_reason, same_dialect=same_dialect)
    about: Document = {
        "id": output.response_id(completion.id),
        "model": completion.model,
        "created_at": completion.created,
    }
    items = _Items(about["id"], choice, same_dialect=same_dialect)
    document = output.response_document(
        settings,
        about,
        status="incomplete" if incomplete else "completed",
        output=items.written(cut=bool(incomplete)),
        usage=output.usage_document(completion.usage, completion.account, same_dialect=same_dialect)
        if completion.HasField("usage")
        else None,
        incomplete=incomplete,
        completed_at=None if incomplete else max(now, completion.created),
        service_tier=completion.service_tier,
        extra=extra_fields(completion.extra_json) if same_dialect else None,
    )
    return orjson.dumps(document)


class _Items:
    """Writes the parts of a turn as items."""

    def __init__(self, response: str, choice: pb.Choice, *, same_dialect: bool) -> None:
        self._response = response
        self._same_dialect = same_dialect
        self._parts = choice.message.parts
        self._logprobs = output.logprobs_of(choice.logprobs)
        self._told = 0
        self._written: list[Document] = []
        self._content: list[Document] | None = None

    def written(self, *, cut: bool) -> Sequence[Document]:
        """Return the items; with `cut` the last one is incomplete, unless its upstream says otherwise."""
        for part in self._parts:
            self._write(part)
        if cut and self._written and self._written[-1].get("status") == "completed":
            last = self._parts[-1]
            if not (self._same_dialect and last.item.status):
                self._written[-1]["status"] = "incomplete"
        return self._written

    def _write(self, part: pb.Part) -> None:
        kind = part.WhichOneof("content")
        if kind == "text":
            self._say(part, output.text_part(part.text.text, self._citations(part), self._take(part.text.text)))
        elif kind == "refusal":
            self._say(part, {"type": "refusal", "refusal": part.refusal.text})
        elif kind == "audio":
            if part.audio.transcript:
                self._say(part, output.text_part(part.audio.transcript, [], []))
        else:
            self._content = None
            if kind == "tool_call":
                call = part.tool_call
                word = "custom_tool_call" if call.kind == pb.TOOL_KIND_CUSTOM else "function_call"
                name = self._id(call.item_id, word)
                self._written.append(output.call_item(name, self._status(part), call, self._extra(part)))
            elif kind == "reasoning":
                self._written.append(self._reasoning(part))
            elif kind == "image":
                if part.image.data:
                    name = self._id("", "image")
                    self._written.append(output.image_item(name, part.image, encode_base64(part.image.data)))
            elif kind == "native" and part.native.dialect == output.RESPONSES:
                self._written.append(output.parse(part.native.json))

    def _say(self, part: pb.Part, document: Document) -> None:
        if self._same_dialect:
            add_extra(document, part.extra_json)
        if self._content is None or part.HasField("item"):
            self._content = []
            item = part.item
            extra_json = item.extra_json if self._same_dialect else ""
            name = self._id(item.id, "message")
            self._written.append(output.message_item(name, self._status(part), self._content, item.phase, extra_json))
        self._content.append(document)

    def _reasoning(self, part: pb.Part) -> Document:
        thought = part.reasoning
        encrypted = thought.encrypted_content if self._same_dialect else thoughts.pack(thought)
        status = part.item.status if self._same_dialect else "completed"
        return output.reasoning_item(
            self._id(thought.item_id, "reasoning"), status, thought, encrypted, self._extra(part)
        )

    def _citations(self, part: pb.Part) -> list[Document]:
        return [output.annotation(one, same_dialect=self._same_dialect) for one in part.text.citations]

    def _take(self, text: str) -> list[Document]:
        """Return the log probabilities of the next text: those of as many tokens as it is made of."""
        begin, length = self._told, 0
        while self._told < len(self._logprobs) and length < len(text):
            length += len(self._logprobs[self._told]["token"])
            self._told += 1
        return self._logprobs[begin : self._told]

    def _id(self, given: str, kind: str) -> str:
        return given or output.item_id(self._response, kind, len(self._written))

    def _status(self, part: pb.Part) -> str:
        return (part.item.status if self._same_dialect else "") or "completed"

    def _extra(self, part: pb.Part) -> str:
        return part.extra_json if self._same_dialect else ""
