"""A stream whose caller leaves: its upstream is cancelled, or read on and charged by what its provider counts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from tokendance.gateway.v1 import completion_pb2
from tokendance_server.domain.metered import Metered
from tokendance_server.domain.upstream import OpenAnswer


class Rest(Protocol):
    """Who keeps account of what comes after a caller has left."""

    def events(self, events: Sequence[completion_pb2.CompletionEvent]) -> None:
        """Take what arrived together."""

    async def ended(self, *, complete: bool) -> None:
        """Learn, exactly once and last, whether the answer came to its own end."""


class ReadsOn(Protocol):
    """Reads answers on, in tasks that somebody owns and within bounds."""

    def take(self, answer: OpenAnswer, rest: Rest) -> bool:
        """Take an answer over, or return False, with the answer left to its owner and `rest` told nothing."""


class Leaving:
    """What becomes of one stream when its caller leaves. Satisfies domain.upstream.AfterLeaving, and Rest.

    Once `taken`, the call is charged here, when the upstream has ended; `error` is how it ended for its caller. It is
    `over` when nobody is to read on, because the gateway itself ends the answer.
    """

    __slots__ = ("_metered", "_reads_on", "_usage", "error", "over", "taken")

    def __init__(self, reads_on: ReadsOn, metered: Metered) -> None:
        self._reads_on = reads_on
        self._metered = metered
        self._usage: completion_pb2.Usage | None = None
        self.error: BaseException = GeneratorExit()
        self.over = False
        self.taken = False

    def take(self, answer: OpenAnswer) -> bool:
        """Let the answer be read on; returns False where it is to be closed."""
        self.taken = not self.over and self._reads_on.take(answer, self)
        return self.taken

    def events(self, events: Sequence[completion_pb2.CompletionEvent]) -> None:
        """Count what the upstream produces, as if it were delivered."""
        self._metered.deliver(events)
        last = events[-1]
        if last.WhichOneof("event") == "finished" and last.finished.HasField("usage"):
            self._usage = last.finished.usage

    async def ended(self, *, complete: bool) -> None:
        """Charge the call: by the provider's counts where they came, else by what was produced."""
        if complete and self._usage is not None:
            await self._metered.leave(self._usage)
        else:
            await self._metered.fail(self.error)
