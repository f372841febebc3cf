"""Who makes the answer of an idempotency key, and what was kept of it: one claim at a time, on whichever node."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta

from tokendance.ids import new_id
from tokendance_server.domain.changes import Change, ChangeKind
from tokendance_server.domain.clock import Clock
from tokendance_server.domain.completions import Caller
from tokendance_server.domain.replay.refusals import cannot_tell, conflict, in_progress, refused
from tokendance_server.domain.replay.store import Claim, Found, ReplayStore, ReplaysUnavailableError
from tokendance_server.domain.replay.tickets import Ticket

_PRUNE_EVERY_S = 60.0
_PRUNED_AT_ONCE = 200
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.02, 0.5


@dataclass(frozen=True, slots=True)
class Keeping:
    """How large an answer may be in bytes, how long it is kept, and how many of a key.

    A repeat waits `wait_s` for the call that is first; the claim of a node that died runs out after `lease_s`.
    """

    answer_bytes: int = 1024 * 1024
    seconds: float = 86_400.0
    count: int = 1000
    wait_s: float = 30.0
    lease_s: float = 30.0


class Claims:
    """The claims of this node, and the answers that all nodes keep.

    `disabled` tells whether the organization of an id wants no answer kept. `report` gets the error where the store
    fails while nobody waits for it, and where the caller is told less.
    """

    def __init__(
        self,
        store: ReplayStore,
        clock: Clock,
        disabled: Callable[[str], Awaitable[bool]],
        report: Callable[[BaseException], None],
        keeping: Keeping,
    ) -> None:
        self._store = store
        self._clock = clock
        self._disabled = disabled
        self._report = report
        self._keeping = keeping
        self._held: dict[str, Claim] = {}
        self._policies: dict[str, bool] = {}
        self._stopped: set[str] = set()
        self._silenced: set[str] = set()
        self._news = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def enter(self, caller: Caller, ticket: Ticket) -> Claim | Found:
        """Return the claim of whoever is first, or the answer that was kept; waits while another call makes it.

        Raises idempotency_conflict, idempotency_in_progress, unsupported_parameter where the organization keeps
        nothing, and ledger_unavailable where nobody can tell.
        """
        loop = asyncio.get_running_loop()
        until = min(loop.time() + self._keeping.wait_s, caller.deadline - _LONGEST_PAUSE_S)
        pause = _FIRST_PAUSE_S
        while True:
            claim = self._claim(caller, ticket)
            try:
                if await self._keeps_nothing(claim.organization_id):
                    raise refused()
                found = await self._store.claim(claim, self._keeping.count)
            except ReplaysUnavailableError as exc:
                self._report(exc)
                raise cannot_tell() from exc
            if found is None:
                self._held[claim.token] = claim
                return claim
            if found.fingerprint != ticket.fingerprint:
                raise conflict()
            if found.sealed is not None:
                return found
            if loop.time() + pause > until:
                raise in_progress()
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE_S)

    async def keep(self, claim: Claim, sealed: bytes) -> bool:
        """Keep the answer of a claim; returns False where that cannot be, and the key is free again."""
        try:
            until = self._clock.now() + timedelta(seconds=self._keeping.seconds)
            nothing = await self._keeps_nothing(claim.organization_id)
            kept = not nothing and await self._store.keep(claim, sealed, until)
        except ReplaysUnavailableError as exc:
            self._report(exc)
            kept = False
        if kept:
            self._held.pop(claim.token, None)
        else:
            await self.release(claim)
        return kept

    async def release(self, claim: Claim) -> None:
        """Free the key: the next call with it is a new one. Where the store fails, the claim runs out by itself."""
        self._held.pop(claim.token, None)
        try:
            await self._store.release(claim)
        except ReplaysUnavailableError as exc:
            self._report(exc)

    def changed(self, change: Change) -> None:
        """Remove what was kept for a key that works no more, or for an organization that keeps nothing."""
        if change.kind == ChangeKind.KEY:
            self._stopped.add(change.name.rpartition("/")[2])
        else:
            self._policies.pop(change.organization_id, None)
            self._silenced.add(change.organization_id)
        self._news.set()

    def everything_changed(self) -> None:
        """Ask anew what organizations want."""
        self._policies.clear()

    def start(self) -> None:
        """Hold the claims of running calls, and remove what is no longer to be kept, until `close`."""
        self._tasks = [asyncio.create_task(self._renew()), asyncio.create_task(self._keep_tidy())]

    async def close(self) -> None:
        """Do neither any more; harmless where it was never started."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        self._tasks = []

    async def tidy(self) -> None:
        """Remove what ran out, in small batches, and what changes were told about. Raises ReplaysUnavailableError."""
        while stopped := list(self._stopped)[:_PRUNED_AT_ONCE]:
            await self._store.forget_keys(stopped, self._clock.now())
            self._stopped.difference_update(stopped)
        for organization_id in list(self._silenced):
            if await self._keeps_nothing(organization_id):
                await self._store.forget_organization(organization_id)
            self._silenced.discard(organization_id)
        pruned = _PRUNED_AT_ONCE
        while pruned == _PRUNED_AT_ONCE:
            pruned = await self._store.prune(self._clock.now(), _PRUNED_AT_ONCE)

    def _claim(self, caller: Caller, ticket: Ticket) -> Claim:
        who, now = caller.identity, self._clock.now()
        assert who.secret_time is not None
        return Claim(
            organization_id=who.organization.rpartition("/")[2],
            scope=ticket.scope,
            fingerprint=ticket.fingerprint,
            token=new_id("claim"),
            key_id=who.key_id,
            secret_time=who.secret_time,
            request_id=caller.request_id,
            create_time=now,
            expire_time=now + timedelta(seconds=self._keeping.lease_s),
        )

    async def _keeps_nothing(self, organization_id: str) -> bool:
        known = self._policies.get(organization_id)
        if known is None:
            known = self._policies[organization_id] = await self._disabled(organization_id)
        return known

    async def _renew(self) -> None:
        # One task for all claims: they are few, and long.
        while True:
            await asyncio.sleep(self._keeping.lease_s / 3)
            claims = list(self._held.values())
            if claims:
                try:
                    await self._store.renew(claims, self._clock.now() + timedelta(seconds=self._keeping.lease_s))
                except ReplaysUnavailableError as exc:
                    self._report(exc)

    async def _keep_tidy(self) -> None:
        while True:
            try:
                async with asyncio.timeout(_PRUNE_EVERY_S):
                    await self._news.wait()
            except TimeoutError:
                pass  # nothing was told for a while: what ran out is removed all the same
            self._news.clear()
            try:
                await self.tidy()
            except ReplaysUnavailableError as exc:
                self._report(exc)
                await asyncio.sleep(_PRUNE_EVERY_S / 10)
