"""Calls that were turned away before anybody knew whose they were: the last ones, in memory only, for support.

They cost their sender nothing and can be made at will, so none of them is ever written to the journal or the database.
"""

from __future__ import annotations

import ipaddress
from collections import OrderedDict, deque
from dataclasses import dataclass, field
from functools import lru_cache

from tokendance.gateway.v1 import usage_pb2
from tokendance_server.domain.clock import Clock
from tokendance_server.domain.usage.entries import FinishedEntry, OpenRequest

CAPACITY = 4096
"""How many calls are kept in all."""
PER_ORIGIN = 64
"""How many of them may be of one origin: its own oldest one goes for its newest."""
KEPT_OF_MINUTE = 30
"""So many of one origin within a minute are all kept; of the others every `SAMPLED`th."""
SAMPLED = 32

_MINUTE_S = 60.0
_HOST_BITS = 64


@lru_cache(maxsize=1024)
def origin_of(address: str) -> str:
    """Return what counts as one origin: an IPv4 address, or the network of 64 bits that one IPv6 host can fill."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if parsed.version == 4:
        return address
    mapped = parsed.ipv4_mapped
    return str(mapped) if mapped is not None else str(ipaddress.ip_network((parsed, _HOST_BITS), strict=False))


@dataclass(slots=True)
class _Origin:
    """What one origin holds, the oldest first, and how much of it came in the minute that runs."""

    kept: deque[str] = field(default_factory=deque)
    minute_since: float = 0.0
    of_minute: int = 0


class TurnedAway:
    """The last calls that were refused before authentication, at most `capacity`; who floods pushes out itself only."""

    def __init__(self, node: str, clock: Clock, *, capacity: int = CAPACITY, per_origin: int = PER_ORIGIN) -> None:
        self._node = node
        self._clock = clock
        self._capacity = capacity
        self._per_origin = per_origin
        self._entries: OrderedDict[str, FinishedEntry] = OrderedDict()
        self._origins: dict[str, _Origin] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def find(self, request_id: str) -> FinishedEntry | None:
        """Return a call by the request id that its caller saw, or None where it is not kept."""
        return self._entries.get(request_id)

    def note(self, request: OpenRequest, reason: int, message: str) -> None:
        """Take note of a call: whose address it came from, why it was refused, and what its caller was told."""
        if request.request_id in self._entries:
            return
        name = origin_of(request.address)
        origin = self._origins.get(name)
        if origin is None:
            origin = self._origins[name] = _Origin()
        if not self._wanted(origin):
            return
        if len(origin.kept) >= self._per_origin:
            del self._entries[origin.kept.popleft()]
        elif len(self._entries) >= self._capacity:
            self._drop_oldest()
            # It may have been the only one of this very origin.
            self._origins[name] = origin
        origin.kept.append(request.request_id)
        self._entries[request.request_id] = FinishedEntry(
            id=request.request_id,
            node=self._node,
            request=request,
            outcome=usage_pb2.REQUEST_OUTCOME_REFUSED,
            end_us=max(int(self._clock.now().timestamp() * 1e6), request.start_us),
            reason=reason,
            message=message,
            cost_micros=0,
        )

    def _wanted(self, origin: _Origin) -> bool:
        now = self._clock.monotonic()
        if now - origin.minute_since >= _MINUTE_S:
            origin.minute_since, origin.of_minute = now, 0
        origin.of_minute += 1
        return not origin.kept or origin.of_minute <= KEPT_OF_MINUTE or origin.of_minute % SAMPLED == 0

    def _drop_oldest(self) -> None:
        _, entry = self._entries.popitem(last=False)
        name = origin_of(entry.request.address)
        origin = self._origins[name]
        # The oldest of all is the oldest of its origin.
        origin.kept.popleft()
        if not origin.kept:
            del self._origins[name]
