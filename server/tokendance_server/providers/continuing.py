"""An upstream that answers in several hops: where it pauses and gives a token, it is asked again for the rest.

The caller sees one answer: its texts are joined, its items numbered on, and the usage of all hops added up.
"""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from typing import Any, Protocol

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import completion_pb2 as pb
from tokendance.gateway.v1 import errors_pb2
from tokendance_server.domain.upstream import Upstream, UpstreamCall
from tokendance_server.providers import json_text

CONTINUATION = "continuationToken"
"""In the `extra_json` of an answer or of Finished: the rest is to be asked for with this, under the same name."""

MOST_HOPS = 16

_COUNTS = (
    "input_tokens", "output_tokens", "cached_input_tokens", "cache_write_tokens", "reasoning_tokens",
    "audio_input_tokens", "audio_output_tokens", "image_input_tokens",
)  # fmt: skip
_PLACED = frozenset({"text", "reasoning", "tool_call", "refusal", "audio", "image", "citation"})

Events = Sequence[pb.CompletionEvent]


class ContinuingUpstream:
    """Asks another upstream again for as long as its answer pauses, 16 hops at most. Satisfies Upstream."""

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream

    async def complete(self, request: pb.CompletionRequest, call: UpstreamCall) -> pb.Completion:
        """Answer in one message."""
        whole = await self._upstream.complete(request, call)
        for _ in range(MOST_HOPS):
            token = _take_token(whole)
            if not token:
                return whole
            more = await self._upstream.complete(request, _with_token(call, token))
            _join(whole, more)
        raise _endless()

    async def stream(self, request: pb.CompletionRequest, call: UpstreamCall) -> AsyncIterator[Events]:
        """Answer as batches of events."""
        hops = _Hops()
        asked = call
        for _ in range(MOST_HOPS):
            hops.begin()
            async with aclosing(self._upstream.stream(request, asked)) as batches:  # type: ignore[type-var]
                async for events in batches:
                    told = hops.told(events)
                    if told:
                        yield told
            if not hops.token:
                return
            asked = _with_token(call, hops.token)
        raise _endless()

    async def embed(self, request: pb.EmbeddingsRequest, call: UpstreamCall) -> pb.Embeddings:
        """Turn texts into vectors."""
        return await self._upstream.embed(request, call)

    async def discover(self, call: UpstreamCall) -> Sequence[str]:
        """Ask which models the provider has."""
        return await self._upstream.discover(call)

    def warnings(self, request: pb.CompletionRequest) -> Sequence[pb.Warning]:
        """Tell what would be left out; raises unsupported_parameter where that would change the answer."""
        return self._upstream.warnings(request)


class _Hops:
    """The events of several hops as those of one answer."""

    def __init__(self) -> None:
        self.token = ""
        self._hop = 0
        self._usage = pb.Usage()
        self._last = ("", -1)
        self._items = 0
        self._calls = 0
        self._item_base: int | None = 0
        self._call_base = 0

    def begin(self) -> None:
        """Go on to the next hop."""
        self._hop += 1
        self.token = ""
        self._item_base = 0 if self._hop == 1 else None
        self._call_base = self._calls

    def told(self, events: Events) -> Events:
        """Return what of these events the caller sees."""
        last = events[-1]
        if last.WhichOneof("event") == "finished":
            self.token = _take_token(last.finished)
            _add(self._usage, last.finished.usage)
            last.finished.usage.CopyFrom(self._usage)
        return [event for event in events if self._is_told(event)]

    def _is_told(self, event: pb.CompletionEvent) -> bool:
        kind = event.WhichOneof("event")
        self._place(event)
        if kind == "started":
            return self._hop == 1
        if kind == "choice_finished":
            return event.choice_finished.finish_reason != pb.FINISH_REASON_PAUSE
        return kind != "finished" or not self.token

    def _place(self, event: pb.CompletionEvent) -> None:
        """Number on what is told: a text goes on in the item where it broke off."""
        kind = event.WhichOneof("event")
        if kind not in _PLACED:
            return
        piece: Any = getattr(event, kind)
        if self._item_base is None:
            goes_on = self._last[0] == kind and kind in ("text", "reasoning")
            self._item_base = (self._last[1] if goes_on else self._items) - piece.item
        piece.item += self._item_base
        if kind == "tool_call":
            piece.index += self._call_base
            self._calls = max(self._calls, piece.index + 1)
        self._items = max(self._items, piece.item + 1)
        self._last = (kind, piece.item)


class _Paused(Protocol):
    extra_json: str


def _take_token(answer: _Paused) -> str:
    """Return the token of an answer that pauses, and take it out: it is nobody's but the upstream's."""
    if CONTINUATION not in answer.extra_json:
        return ""
    extra = json_text.read(answer.extra_json)
    token = extra.pop(CONTINUATION, "")
    answer.extra_json = json_text.write_object(extra)
    return token if isinstance(token, str) else ""


def _with_token(call: UpstreamCall, token: str) -> UpstreamCall:
    forced = json_text.read(call.forced_parameters) if call.forced_parameters else {}
    return dataclasses.replace(call, forced_parameters=json_text.write({**forced, CONTINUATION: token}))


def _join(whole: pb.Completion, more: pb.Completion) -> None:
    """Add a further hop to an answer."""
    for choice, rest in zip(whole.choices, more.choices, strict=False):
        parts = list(rest.message.parts)
        if choice.message.parts and parts:
            last = choice.message.parts[-1]
            kind = last.WhichOneof("content")
            if kind == parts[0].WhichOneof("content") and kind in ("text", "reasoning"):
                _go_on(getattr(last, kind), getattr(parts.pop(0), kind))
        choice.message.parts.extend(parts)
        choice.finish_reason = rest.finish_reason
        choice.native_finish_reason = rest.native_finish_reason
        choice.logprobs.extend(rest.logprobs)
    _add(whole.usage, more.usage)
    whole.extra_json = more.extra_json


def _go_on(target: Any, more: Any) -> None:
    text = target.text + more.text
    target.MergeFrom(more)
    target.text = text


def _add(total: pb.Usage, more: pb.Usage) -> None:
    for name in _COUNTS:
        setattr(total, name, getattr(total, name) + getattr(more, name))
    if total.source != pb.USAGE_SOURCE_ESTIMATED:
        total.source = more.source
    total.extra_json = more.extra_json or total.extra_json


def _endless() -> GatewayError:
    return GatewayError(
        errors_pb2.ERROR_REASON_PROVIDER_ERROR,
        "The model's provider paused its answer again and again; send the request again, or ask for less.",
        origin="provider",
    )
