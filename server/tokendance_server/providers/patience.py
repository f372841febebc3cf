"""How long one call waits for its upstream: the provider's times, and the caller's deadline above them."""

from __future__ import annotations

from tokendance.errors import GatewayError
from tokendance_server.domain.catalogue.models import ProviderConfig
from tokendance_server.providers.failures import deadline_passed, timed_out


class Patience:
    """When the patience with one call ends, in the event loop's seconds. `last` is when something was read last."""

    __slots__ = ("_deadline", "_idle_s", "_total_due", "first_byte_due", "last")

    def __init__(self, provider: ProviderConfig, deadline: float, now: float) -> None:
        self._deadline = deadline
        self._idle_s = provider.idle_timeout_s
        self._total_due = min(now + provider.total_timeout_s, deadline)
        self.first_byte_due = min(now + provider.first_byte_timeout_s, self._total_due)
        self.last: float | None = None

    def due(self) -> float:
        """Return when the wait that is going on now ends."""
        if self.last is None:
            return self.first_byte_due
        return min(self.last + self._idle_s, self._total_due)

    def error(self, now: float) -> GatewayError:
        """Return the error for a wait that has ended by `now`."""
        return deadline_passed() if now >= self._deadline else timed_out()
