"""What clients of Anthropic's API say and read in headers: version and betas, and how the caller's limits stand."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Protocol

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import completion_pb2 as pb
from tokendance.gateway.v1 import errors_pb2
from tokendance_facade.answers import Header

VERSION = "anthropic-version"
_BETA = "anthropic-beta"
_MAX_VALUE = 8192
_UNITS = ("requests", "tokens")


class Headers(Protocol):
    """Request headers: names without regard to case, several values to a name."""

    def getall(self, key: str, default: list[str]) -> list[str]:
        """Return all values."""


def read_dialect_headers(headers: Headers) -> list[pb.DialectHeader]:
    """Return version and betas as they came, betas of several headers in one. Raises invalid_request."""
    found = []
    for name in (_BETA, VERSION):
        value = ",".join(headers.getall(name, []))
        if not value:
            continue
        if len(value) > _MAX_VALUE or not (value.isascii() and value.isprintable()):
            raise GatewayError(
                errors_pb2.ERROR_REASON_INVALID_REQUEST,
                f"The header {name} must have at most {_MAX_VALUE:,} printable ASCII characters.",
                param=name,
                origin="caller",
            )
        found.append(pb.DialectHeader(name=name, value=value))
    return found


def limit_headers(account: pb.CallAccount, now_s: float) -> tuple[Header, ...]:
    """Return `anthropic-ratelimit-*` for the tightest limits; their reset is a time, `now_s` is seconds since 1970."""
    headers: list[Header] = []
    for unit in _UNITS:
        if not account.HasField(unit):  # type: ignore[arg-type]  # the stub lists the names one by one
            continue
        standing: pb.RateStanding = getattr(account, unit)
        headers.append((f"anthropic-ratelimit-{unit}-limit", str(standing.limit)))
        headers.append((f"anthropic-ratelimit-{unit}-remaining", str(standing.remaining)))
        if standing.HasField("reset"):
            headers.append((f"anthropic-ratelimit-{unit}-reset", _time(now_s + standing.reset.ToMilliseconds() / 1000)))
    return tuple(headers)


def speaks_anthropic(headers: Mapping[str, str]) -> bool:
    """Tell whether a caller of a path that two APIs share speaks Anthropic's."""
    return VERSION in headers


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
