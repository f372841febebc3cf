"""Answers as they are produced: events, or only their text. A cut stream is an error, never a clean end."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Self

from tokendance.aio_channel import AsyncAnswerStream
from tokendance.channel import AnswerStream
from tokendance.errors import GatewayError
from tokendance.gateway.v1 import completion_pb2 as pb
from tokendance.gateway.v1 import completions_service_pb2 as service_pb
from tokendance.gateway.v1 import errors_pb2


class CompletionStream:
    """One answer as it is produced. Iterate over it once: the events, or `texts()`.

    Leaving it early cancels the call. `started` and `finished` are None until their events came;
    `finished.usage` is what the call used.
    """

    def __init__(self, replies: AnswerStream[service_pb.StreamCompletionResponse]) -> None:
        self._replies = replies
        self.started: pb.Started | None = None
        self.finished: pb.Finished | None = None

    @property
    def request_id(self) -> str | None:
        """The request id; waits for the head of the answer."""
        return self._replies.request_id

    def __iter__(self) -> Iterator[pb.CompletionEvent]:
        """Yield the events; raises GatewayError, also in mid-stream."""
        try:
            for reply in self._replies:
                for event in reply.events:
                    self.started, self.finished = _noted(event, self.started, self.finished)
                    yield event
            if self.finished is None:
                raise _cut(self.request_id)
        finally:
            self.close()

    def texts(self, choice: int = 0) -> Iterator[str]:
        """Yield the text of one choice, piece by piece; raises as iteration does."""
        for event in self:
            if event.text.text and event.text.choice == choice:
                yield event.text.text

    def close(self) -> None:
        """End the call where it still runs; harmless after its end."""
        self._replies.cancel()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class AsyncCompletionStream:
    """One answer as it is produced, in asyncio. Iterate over it once: the events, or `texts()`.

    Use it with `async with`, so that leaving early cancels the call at once. `started` and `finished` are
    None until their events came; `finished.usage` is what the call used.
    """

    def __init__(self, replies: AsyncAnswerStream[service_pb.StreamCompletionResponse]) -> None:
        self._replies = replies
        self.started: pb.Started | None = None
        self.finished: pb.Finished | None = None

    async def request_id(self) -> str | None:
        """Return the request id; waits for the head of the answer."""
        return await self._replies.request_id()

    async def __aiter__(self) -> AsyncIterator[pb.CompletionEvent]:
        """Yield the events; raises GatewayError, also in mid-stream."""
        try:
            async for reply in self._replies:
                for event in reply.events:
                    self.started, self.finished = _noted(event, self.started, self.finished)
                    yield event
            if self.finished is None:
                raise _cut(await self.request_id())
        finally:
            self.close()

    async def texts(self, choice: int = 0) -> AsyncIterator[str]:
        """Yield the text of one choice, piece by piece; raises as iteration does."""
        async for event in self:
            if event.text.text and event.text.choice == choice:
                yield event.text.text

    def close(self) -> None:
        """End the call where it still runs; harmless after its end."""
        self._replies.cancel()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()


def _noted(
    event: pb.CompletionEvent, started: pb.Started | None, finished: pb.Finished | None
) -> tuple[pb.Started | None, pb.Finished | None]:
    if event.HasField("started"):
        return event.started, finished
    if event.HasField("finished"):
        return started, event.finished
    return started, finished


def _cut(request_id: str | None) -> GatewayError:
    return GatewayError(
        errors_pb2.ERROR_REASON_STREAM_INTERRUPTED,
        "The stream ended before the answer was complete; what came so far may be cut off.",
        request_id=request_id,
    )
