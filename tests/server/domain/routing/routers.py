"""Routers of the tests: over a catalogue that a test states, with a clock and a die that do as they are told."""

from __future__ import annotations

from collections.abc import Callable

from tokendance_server.domain.catalogue.in_force import Serving
from tokendance_server.domain.clock import Clock
from tokendance_server.domain.routing.circuit import Cause
from tokendance_server.domain.routing.credentials import Credential
from tokendance_server.domain.routing.router import Router, RoutingRules
from tokendance_server.domain.routing.track import Track


class Told:
    """Satisfies Report: remembers what it was told, in order."""

    def __init__(self) -> None:
        self.said: list[tuple[str, str]] = []

    def circuit_opened(self, track: Track, cause: Cause, rest_s: float) -> None:
        self.said.append(("opened", f"{track.key[0]} {cause}"))

    def circuit_closed(self, track: Track) -> None:
        self.said.append(("closed", track.key[0]))

    def credential_refused(self, credential: Credential) -> None:
        self.said.append(("refused", f"{credential.provider} {credential.status}"))

    def credential_restored(self, credential: Credential) -> None:
        self.said.append(("restored", credential.provider))


def router_of(
    serving: Callable[[], Serving],
    clock: Clock,
    *,
    random: Callable[[], float] = lambda: 0.0,
    rules: RoutingRules | None = None,
    told: Told | None = None,
) -> Router:
    """Return a router whose die always shows 0, unless a test gives it another."""
    return Router(serving, clock, random, told or Told(), rules)
