"""Cross-origin requests: off unless origins are configured, and never with credentials of a browser's own."""

from __future__ import annotations

from tokendance_facade.answers import Header
from tokendance_facade.exchange import Exchange

_EXPOSED = (
    "x-request-id, request-id, retry-after, x-should-retry, x-tokendance-error-code, x-tokendance-warnings, "
    "x-ratelimit-limit-requests, x-ratelimit-remaining-requests, x-ratelimit-reset-requests, "
    "x-ratelimit-limit-tokens, x-ratelimit-remaining-tokens, x-ratelimit-reset-tokens"
)
_MAX_AGE_S = 600


class CorsRules:
    """Which origins a browser may call from; `*` stands for all."""

    def __init__(self, origins: tuple[str, ...]) -> None:
        self._origins = frozenset(origins)
        self._any = "*" in origins

    def headers(self, exchange: Exchange) -> tuple[Header, ...]:
        """Return the headers that let the origin of a request read its answer; none for other origins."""
        if not self._origins:
            return ()
        origin = exchange.request.headers.get("Origin")
        if origin is None or not (self._any or origin in self._origins):
            return (("vary", "Origin"),)
        allowed: tuple[Header, ...] = (
            ("access-control-allow-origin", "*" if self._any else origin),
            ("vary", "Origin"),
            ("access-control-expose-headers", _EXPOSED),
        )
        if exchange.request.method != "OPTIONS" or "Access-Control-Request-Method" not in exchange.request.headers:
            return allowed
        # The SDKs send a dozen headers of their own; none of them may do harm, so all that are asked for are allowed.
        asked = exchange.request.headers.get("Access-Control-Request-Headers", "authorization, content-type")
        return (
            *allowed,
            ("access-control-allow-methods", "GET, POST, DELETE, OPTIONS"),
            ("access-control-allow-headers", "".join(c for c in asked[:2048] if c.isalnum() or c in "-_, ")),
            ("access-control-max-age", str(_MAX_AGE_S)),
        )
