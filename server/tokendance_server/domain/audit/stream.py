"""The trail on its way out: events to a sink, at least once and in order, and each hour the signed ends of chains.

One node does it at a time, under a lease in the database, which also says how far the sink got: whatever ends a node,
another one or the next goes on from there.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from tokendance_server.domain.audit.events import AuditEvent, ChainHead
from tokendance_server.domain.audit.heads import HeadSigner, SignedHead
from tokendance_server.domain.audit.lines import chain_name, event_line, head_line
from tokendance_server.domain.clock import Clock

SIGNED_EVERY = timedelta(hours=1)
"""How often the end of a chain is signed that moved."""

_STREAM_EVERY_S = 1.0
_SIGN_EVERY_S = 30.0
_BATCH = 500


class LeaseLostError(Exception):
    """Another node streams the trail now."""


class Sink(Protocol):
    """Takes the trail, line by line."""

    async def write(self, lines: Sequence[str]) -> None:
        """Write lines, given without their ends, so that they last. Raises OSError."""

    async def close(self) -> None:
        """Close what was opened."""


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a chain stands: its end, the last place that the sink has, and the last end that was signed, if any."""

    organization_id: str
    head: ChainHead
    sent: int
    signed: ChainHead | None
    signing_due: bool


class StreamStore(Protocol):
    """Keeps who streams, and how far it got."""

    async def take(self) -> bool:
        """Take or keep the lease; return whether this node has it."""

    async def release(self) -> None:
        """Give the lease back, if this node has it."""

    async def behind(self, *, unsent: bool, signed_before: datetime, limit: int) -> list[Standing]:
        """Return chains with events that the sink has not (if `unsent`), or whose end moved and was not signed since.

        `signed_before` is when the last signing must have been for the next one to be due.
        """

    async def events(self, organization_id: str, after: int, limit: int) -> list[AuditEvent]:
        """Return events of a chain behind a place, oldest first."""

    async def has(self, organization_id: str, head: ChainHead) -> bool:
        """Tell whether a chain has this digest at this place."""

    async def sent(self, organization_id: str, sequence: int) -> None:
        """Keep that the sink has a chain up to a place. Raises LeaseLostError."""

    async def keep_head(self, signed: SignedHead) -> None:
        """Keep a signed head, and that it is the last. Raises LeaseLostError."""


class StreamTold(Protocol):
    """Learns how the stream fares."""

    def failing(self, error: Exception | None) -> None:
        """Take the error when streaming begins to fail, and None when it works again."""

    def broken(self, chain: str, sequence: int) -> None:
        """Take the name of a chain whose end, or the one that was signed last, is not in it any more; once for each."""


class TrailStream:
    """Streams the trail to a sink, if there is one, and signs the ends of chains. Satisfies Background."""

    def __init__(
        self, store: StreamStore, signer: HeadSigner, clock: Clock, told: StreamTold, sink: Sink | None = None
    ) -> None:
        self._store = store
        self._signer = signer
        self._clock = clock
        self._told = told
        self._sink = sink
        self._unsent_since: datetime | None = None
        self._broken: set[tuple[str, int]] = set()
        self._failing = False
        self._ending = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def lag_s(self) -> float:
        """How old the oldest event is that this node should have sent and has not, in seconds; 0: there is none."""
        if self._unsent_since is None:
            return 0.0
        return max((self._clock.now() - self._unsent_since).total_seconds(), 0.0)

    def start(self) -> None:
        """Stream from now on, until `close`."""
        self._task = asyncio.create_task(self._run(), name="audit stream")

    async def close(self) -> None:
        """Send what is left, let another node go on, and end; harmless where it was never started."""
        if self._task is not None:
            # Not cancelled: lines that are half written would be written again.
            self._ending.set()
            await self._task
            self._task = None
            await self.advance()
            try:
                await self._store.release()
            except Exception as exc:  # noqa: BLE001 - told; the lease runs out by itself, and the node's end goes on
                self._tell(exc)
        if self._sink is not None:
            await self._sink.close()

    async def advance(self) -> None:
        """Send and sign what is due, if this node has the lease. What fails is told, and tried again next time."""
        try:
            if await self._store.take():
                await self._advance()
            self._unsent_since = None
        except LeaseLostError:
            self._unsent_since = None
        except Exception as exc:  # noqa: BLE001 - whatever it was is tried again, and told; nothing waits for it
            self._tell(exc)
            return
        self._tell(None)

    async def _advance(self) -> None:
        while True:
            due = self._clock.now() - SIGNED_EVERY
            found = await self._store.behind(unsent=self._sink is not None, signed_before=due, limit=_BATCH)
            moved = False
            for one in found:
                moved = await self._send(one) or moved
                if one.signing_due:
                    moved = await self._sign(one) or moved
            if not moved:
                return

    async def _send(self, one: Standing) -> bool:
        """Send a chain up to the end that it had; return whether there was anything."""
        if self._sink is None:
            return False
        place = one.sent
        while place < one.head.sequence:
            events = await self._store.events(one.organization_id, place, _BATCH)
            events = [event for event in events if event.sequence <= one.head.sequence]
            if not events:
                # Rows were removed; who checks the chain learns which.
                break
            self._unsent_since = self._unsent_since or events[0].time
            await self._sink.write([event_line(event) for event in events])
            place = events[-1].sequence
            await self._store.sent(one.organization_id, place)
            self._unsent_since = None
        return place > one.sent

    async def _sign(self, one: Standing) -> bool:
        """Sign the end of a chain, if it and the one that was signed before are in it; return whether it was."""
        for end in filter(None, (one.signed, one.head)):
            if not await self._store.has(one.organization_id, end):
                self._tell_broken(one.organization_id, end.sequence)
                return False
        signed = self._signer.sign(one.organization_id, one.head, self._clock.now())
        if self._sink is not None:
            await self._sink.write([head_line(signed)])
        await self._store.keep_head(signed)
        return True

    def _tell_broken(self, organization_id: str, sequence: int) -> None:
        if (organization_id, sequence) not in self._broken:
            self._broken.add((organization_id, sequence))
            self._told.broken(chain_name(organization_id), sequence)

    async def _run(self) -> None:
        every = _SIGN_EVERY_S if self._sink is None else _STREAM_EVERY_S
        while not self._ending.is_set():
            await self.advance()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._ending.wait(), every)

    def _tell(self, error: Exception | None) -> None:
        if (error is not None) != self._failing:
            self._failing = error is not None
            self._told.failing(error)
