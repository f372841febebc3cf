"""What the trail tells besides changes: sign-ins and refusals, written behind the calls and never more than a few.

Nothing here may fail a call or hold one up, and no flood of calls may fill the database.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections import OrderedDict, deque
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from tokendance_server.domain.audit.events import PLATFORM, EventDraft, Origin, event
from tokendance_server.domain.audit.store import AuditStore
from tokendance_server.domain.clock import Clock
from tokendance_server.domain.names import tenant_of
from tokendance_server.domain.principals import Principal

REPEAT_S = 600.0
"""For how long a refusal that is like an earlier one is only counted."""
MOST_OF_ACTOR = 60
"""How many events besides changes one actor can have written within an hour, on one node."""
MOST_OF_NODE = 3600
"""How many one node writes within an hour."""
MOST_WAITING = 1000
"""How many wait for the database at most."""

_HOUR_S = 3600.0
_REMEMBERED = 10_000
_BATCH = 100
_EVERY_S = 1.0
_LAST_WRITE_S = 5.0

Fate = Literal["written", "alike", "over_limit", "lost"]


class Told(Protocol):
    """Learns what becomes of the events, and whether they can be written."""

    def ended(self, fate: Fate, count: int = 1) -> None:
        """Count events."""

    def failing(self, error: Exception | None) -> None:
        """Take the error when writing begins to fail, and None when it works again."""


@dataclass(slots=True)
class _Alike:
    """Refusals that are alike: when the last was written, and how many were not since."""

    written_at: float
    passed_over: int = 0


class Asides:
    """Notes sign-ins, once for each token, and refusals, once in ten minutes of those that are alike.

    Satisfies Background. Where the database takes nothing, at most MOST_WAITING events wait; more are lost.
    """

    def __init__(self, store: AuditStore, clock: Clock, told: Told, *, every_s: float = _EVERY_S) -> None:
        self._store = store
        self._clock = clock
        self._told = told
        self._every_s = every_s
        self._tokens: OrderedDict[bytes, float] = OrderedDict()
        self._refusals: OrderedDict[tuple[str, str, str], _Alike] = OrderedDict()
        self._budgets: OrderedDict[str, _Budget] = OrderedDict()
        self._node = _Budget(MOST_OF_NODE)
        self._waiting: deque[EventDraft] = deque()
        self._failing = False
        self._ending = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        return len(self._waiting)

    def signed_in(self, caller: Principal, token: str, origin: Origin) -> None:
        """Note that somebody came with a token, if it is the first time here that this token is seen."""
        digest = hashlib.blake2b(token.encode(), digest_size=16).digest()
        now = self._clock.monotonic()
        seen_until = self._tokens.get(digest)
        if seen_until is not None and now < seen_until:
            return
        left = _HOUR_S
        if caller.expire_time is not None:
            left = max((caller.expire_time - self._clock.now()).total_seconds(), 60.0)
        self._tokens[digest] = now + left
        self._tokens.move_to_end(digest)
        _bound(self._tokens)
        self._note(self._draft(caller, origin, action="session.create", resource=caller.name))

    def refused(self, caller: Principal, origin: Origin, *, action: str, resource: str, code: str) -> None:
        """Note that somebody was refused a change. It is told in the chain of the caller, not of what it reached for.

        `action` is what the change would have been told as, `resource` what it named, or empty.
        """
        kind = (caller.name, action, code)
        now = self._clock.monotonic()
        alike = self._refusals.get(kind)
        if alike is not None and now < alike.written_at + REPEAT_S:
            alike.passed_over += 1
            self._told.ended("alike")
            return
        before = 0 if alike is None else alike.passed_over
        reason = f"{before} more like it were refused after the one before." if before else ""
        draft = self._draft(caller, origin, action=action, resource=resource, reason=reason, code=code)
        if self._note(draft):
            self._refusals[kind] = _Alike(now)
            self._refusals.move_to_end(kind)
            _bound(self._refusals)

    def start(self) -> None:
        """Write from now on, until `close`."""
        self._task = asyncio.create_task(self._run(), name="audit events besides changes")

    async def close(self) -> None:
        """Write what is left, and end; harmless where it was never started."""
        if self._task is None:
            return
        # Not cancelled: what is being written would be written again.
        self._ending.set()
        await self._task
        self._task = None
        await self.flush()
        self._told.ended("lost", len(self._waiting))
        self._waiting.clear()

    async def flush(self) -> None:
        """Write what waits; what cannot be written goes on waiting."""
        while self._waiting:
            batch = [self._waiting[place] for place in range(min(_BATCH, len(self._waiting)))]
            try:
                async with asyncio.timeout(_LAST_WRITE_S):
                    await self._store.record_all(batch)
            except Exception as exc:  # noqa: BLE001 - whatever it was is tried again, and told; nothing waits for it
                self._tell(exc)
                return
            for _ in batch:
                self._waiting.popleft()
            self._told.ended("written", len(batch))
            self._tell(None)

    async def _run(self) -> None:
        while not self._ending.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._ending.wait(), self._every_s)
            await self.flush()

    def _tell(self, error: Exception | None) -> None:
        if (error is not None) != self._failing:
            self._failing = error is not None
            self._told.failing(error)

    def _note(self, draft: EventDraft) -> bool:
        budget = self._budgets.setdefault(draft.actor, _Budget(MOST_OF_ACTOR))
        self._budgets.move_to_end(draft.actor)
        _bound(self._budgets)
        now = self._clock.monotonic()
        if not budget.has(now) or not self._node.has(now):
            self._told.ended("over_limit")
            return False
        if len(self._waiting) >= MOST_WAITING:
            self._told.ended("lost")
            return False
        budget.take()
        self._node.take()
        self._waiting.append(draft)
        return True

    def _draft(
        self, caller: Principal, origin: Origin, *, action: str, resource: str, reason: str = "", code: str = ""
    ) -> EventDraft:
        return event(
            caller,
            origin,
            organization_id=tenant_of(caller.organization) or PLATFORM,
            time=self._clock.now(),
            action=action,
            resource=resource,
            reason=reason,
            refused=code,
        )


class _Budget:
    """How many events may be written within an hour, which begins with the first."""

    __slots__ = ("_began", "_most", "_taken")

    def __init__(self, most: int) -> None:
        self._most = most
        self._began = 0.0
        self._taken = 0

    def has(self, now: float) -> bool:
        """Tell whether there may be another one, at a time in seconds."""
        if not self._taken or now >= self._began + _HOUR_S:
            self._began, self._taken = now, 0
        return self._taken < self._most

    def take(self) -> None:
        """Take one."""
        self._taken += 1


def _bound(remembered: OrderedDict[Any, Any]) -> None:
    while len(remembered) > _REMEMBERED:
        remembered.popitem(last=False)
