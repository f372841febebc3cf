"""What sends warnings: crossings become deliveries, and deliveries are posted until they are taken or given up."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal, Protocol

from tokendance_server.domain.clock import Clock
from tokendance_server.domain.quota.thresholds import Crossing
from tokendance_server.domain.sealing import UnsealError
from tokendance_server.domain.webhooks.messages import Places, deliveries_of
from tokendance_server.domain.webhooks.seals import WebhookSeals
from tokendance_server.domain.webhooks.signing import signed_headers
from tokendance_server.domain.webhooks.webhook import Delivery, DeliveryState, Post, PostFailedError, WebhookStore

Outcome = Literal["delivered", "retried", "failed", "dropped", "lost"]
"""How a try ended; `dropped` is what nobody wants any more, `lost` a warning for which the queue had no room."""

POLL_S = 5.0
DELAYS_S = (30.0, 120.0, 480.0, 1920.0, 7680.0, 30720.0, 43200.0)
"""How long the next try waits after each that failed; after the last of them a delivery has failed: a day in all."""

_JITTER = 0.2
_LEASE = timedelta(seconds=60)
_AT_ONCE = 16
_QUEUE = 10_000
_PRUNE_S = 3600.0
_PRUNE_ROWS = 1000
_LAST_CROSSINGS_S = 2.0


class Told(Protocol):
    """Is told how sending fares."""

    def ended(self, outcome: Outcome) -> None:
        """Count one."""

    def failing(self, error: Exception | None) -> None:
        """Hear of the error when the database begins to fail, and of None when it works again."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How often to look for what is due, and how long to wait after each failure, both in seconds."""

    poll_s: float = POLL_S
    delays_s: Sequence[float] = DELAYS_S


class WebhookSender:
    """Takes crossings by being called, and sends until `close`. `watch` is given the thresholds that are asked for."""

    def __init__(
        self,
        store: WebhookStore,
        seals: WebhookSeals,
        post: Post,
        *,
        places: Places,
        clock: Clock,
        told: Told,
        watch: Callable[[frozenset[int]], None],
        pace: Pace | None = None,
    ) -> None:
        self._store = store
        self._seals = seals
        self._post = post
        self._places = places
        self._clock = clock
        self._told = told
        self._watch = watch
        self._pace = pace or Pace()
        self._crossings: deque[Crossing] = deque()
        self._wake = asyncio.Event()
        self._failing = False
        self._pruned_at = float("-inf")
        self._task: asyncio.Task[None] | None = None

    def __call__(self, crossing: Crossing) -> None:
        """Put a crossing into the queue; one for which there is no room is lost."""
        if len(self._crossings) >= _QUEUE:
            self._told.ended("lost")
            return
        self._crossings.append(crossing)
        self._wake.set()

    def start(self) -> None:
        """Send until `close`."""
        self._task = asyncio.create_task(self._run(), name="webhooks")

    async def close(self) -> None:
        """End; what is known by now is kept for other nodes and the next start. Harmless where it never began."""
        if self._task is None:
            return
        self._task.cancel()
        await asyncio.wait({self._task})
        self._task = None
        try:
            async with asyncio.timeout(_LAST_CROSSINGS_S):
                await self._keep_crossings()
        except Exception as exc:  # noqa: BLE001 - nothing is left that could try again
            self._told.failing(exc)

    async def turn(self) -> None:
        """Keep what was told, and send all that is due. Raises what the store raises."""
        self._watch(await self._store.percents())
        await self._keep_crossings()
        while True:
            now = self._clock.now()
            claimed = await self._store.claim(now, now + _LEASE, _AT_ONCE)
            if not claimed:
                break
            ends = await asyncio.gather(*map(self._send, claimed), return_exceptions=True)
            # Only when all have ended: what was taken meanwhile is written down, and not sent twice.
            for error in filter(None, ends):
                raise error
        if self._clock.monotonic() - self._pruned_at >= _PRUNE_S:
            self._pruned_at = self._clock.monotonic()
            await self._store.prune(self._clock.now(), _PRUNE_ROWS)

    async def _run(self) -> None:
        while True:
            self._wake.clear()
            try:
                await self.turn()
            except Exception as exc:  # noqa: BLE001 - what is kept stays, and the next turn may succeed
                if not self._failing:
                    self._told.failing(exc)
                self._failing = True
                await asyncio.sleep(self._pace.poll_s)
                continue
            if self._failing:
                self._told.failing(None)
            self._failing = False
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._pace.poll_s):
                    await self._wake.wait()

    async def _keep_crossings(self) -> None:
        while self._crossings:
            found = await deliveries_of(self._crossings[0], self._store, self._places, self._clock.now())
            await self._store.enqueue(found)
            # Only now: what the database did not take is tried again.
            self._crossings.popleft()

    async def _send(self, delivery: Delivery) -> None:
        webhook = await self._store.get(delivery.organization_id, delivery.webhook_id)
        now = self._clock.now()
        if webhook is None or webhook.draft.disabled:
            await self._store.ended(delivery, DeliveryState.FAILED, now, now=now)
            self._told.ended("dropped")
            return
        body = delivery.body.encode()
        try:
            headers = signed_headers(self._seals.valid(webhook, now), delivery.id, int(now.timestamp()), body)
            await self._post(webhook.draft.url, headers, body)
        except UnsealError:
            await self._failed(delivery, "The gateway cannot open the secret of this webhook; rotate it.")
        except PostFailedError as exc:
            await self._failed(delivery, str(exc))
        else:
            now = self._clock.now()
            await self._store.ended(delivery, DeliveryState.DELIVERED, now, now=now)
            self._told.ended("delivered")

    async def _failed(self, delivery: Delivery, why: str) -> None:
        now, tries = self._clock.now(), delivery.attempts
        if tries > len(self._pace.delays_s):
            await self._store.ended(delivery, DeliveryState.FAILED, now, now=now, failure=why)
            self._told.ended("failed")
            return
        # Many that failed together must not come back together.
        wait_s = self._pace.delays_s[tries - 1] * random.uniform(1 - _JITTER, 1 + _JITTER)  # noqa: S311
        again = now + timedelta(seconds=wait_s)
        await self._store.ended(delivery, DeliveryState.PENDING, again, now=now, failure=why)
        self._told.ended("retried")
