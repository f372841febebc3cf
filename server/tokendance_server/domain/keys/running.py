"""Streams while they run: ended, and told why, when their key or their member stops working on whichever node."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from tokendance.errors import GatewayError
from tokendance_server.domain.changes import Change, ChangeKind
from tokendance_server.domain.principals import Principal
from tokendance_server.domain.scopes import member_id

End = Callable[[GatewayError], None]

_TRIES = 5
_TRY_AGAIN_S = 0.2


class Doubts(Protocol):
    """Tells whether a caller may still come in."""

    async def refusal(self, principal: Principal) -> GatewayError | None:
        """Return why a key's secret or a member works no more, or None. Raises what the store raises."""


class RunningStreams:
    """The streams of each key and each member.

    What changed about one of them, or about its organization, is looked at once for each secret in use.

    `report` gets the error where that cannot be looked at, after some tries; its streams go on then, because the node
    itself stops serving when it stays blind.
    """

    def __init__(self, keys: Doubts, report: Callable[[Exception], None]) -> None:
        self._keys = keys
        self._report = report
        self._streams: dict[str, dict[End, Principal]] = {}
        self._checks: set[asyncio.Task[None]] = set()

    def enter(self, principal: Principal, end: End) -> None:
        """Take note of a stream; `end` ends it. Followed by one `leave` with the same arguments."""
        self._streams.setdefault(_holder(principal), {})[end] = principal

    def leave(self, principal: Principal, end: End) -> None:
        """Forget a stream."""
        streams = self._streams.get(_holder(principal))
        if streams is not None:
            streams.pop(end, None)
            if not streams:
                del self._streams[_holder(principal)]

    def changed(self, change: Change) -> None:
        """Look at the key or member that a change names, or at all in use of the organization that it names."""
        if change.kind == ChangeKind.ORGANIZATION:
            self._look_at([key for key, streams in self._streams.items() if _belongs(streams, change.name)])
        else:
            self._look_at([change.name.rpartition("/")[2]])

    def everything_changed(self) -> None:
        """Look at every key and member in use."""
        self._look_at(list(self._streams))

    async def close(self) -> None:
        """Look no further."""
        for check in self._checks:
            check.cancel()
        if self._checks:
            await asyncio.wait(self._checks)

    def _look_at(self, key_ids: list[str]) -> None:
        used = [key_id for key_id in key_ids if key_id in self._streams]
        if used:
            check = asyncio.create_task(self._check(used), name="running-streams")
            self._checks.add(check)
            check.add_done_callback(self._checks.discard)

    async def _check(self, key_ids: list[str]) -> None:
        for key_id in key_ids:
            by_secret = {one.secret_time: one for one in self._streams.get(key_id, {}).values()}
            for principal in by_secret.values():
                await self._end_refused(principal)

    async def _end_refused(self, principal: Principal) -> None:
        refusal = await self._refusal(principal)
        if refusal is None:
            return
        for end, one in list(self._streams.get(_holder(principal), {}).items()):
            if one.secret_time == principal.secret_time:
                # Each call writes its own request id into its error.
                end(GatewayError(refusal.reason, refusal.message, metadata=refusal.metadata, origin=refusal.origin))

    async def _refusal(self, principal: Principal) -> GatewayError | None:
        for attempt in range(_TRIES):
            try:
                return await self._keys.refusal(principal)
            except Exception as exc:  # noqa: BLE001 - whatever the store raises is tried again, and told at the end
                if attempt == _TRIES - 1:
                    self._report(exc)
                else:
                    await asyncio.sleep(_TRY_AGAIN_S)
        return None


def is_followed(principal: Principal) -> bool:
    """Tell whether the streams of a caller are to end when it is stopped: those of keys and of members."""
    return bool(_holder(principal))


def _holder(principal: Principal) -> str:
    # Ids of keys and of members begin differently.
    return principal.key_id or member_id(principal)


def _belongs(streams: dict[End, Principal], organization: str) -> bool:
    return next(iter(streams.values())).organization == organization
