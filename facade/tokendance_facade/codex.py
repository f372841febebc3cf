"""Quota in the headers that Codex reads: how much of its limits is used, and when they start anew."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from tokendance.gateway.v1 import completion_pb2 as pb
from tokendance_facade.answers import Header

_WINDOW_MINUTES = {"minute": 1, "hour": 60, "day": 1440, "month": 43_200}


def codex_headers(account: pb.CallAccount, now: float) -> tuple[Header, ...]:
    """Return `x-codex-primary-*` and `-secondary-*`: the tightest limits on tokens and on requests.

    The one with less left is the primary one; without limits there is neither. `now` is in seconds since 1970.
    """
    standings = [
        standing
        for name, standing in (("tokens", account.tokens), ("requests", account.requests))
        if account.HasField(name)  # type: ignore[arg-type]  # the stub lists the names one by one
    ]
    standings.sort(key=lambda standing: standing.remaining / max(standing.limit, 1))
    headers: list[Header] = []
    for place, standing in zip(("primary", "secondary"), standings, strict=False):
        headers.append((f"x-codex-{place}-used-percent", _percent(standing.limit - standing.remaining, standing.limit)))
        if standing.HasField("reset"):
            headers.append((f"x-codex-{place}-reset-at", str(int(now + standing.reset.ToSeconds()))))
    return tuple(headers)


def codex_refusal_headers(metadata: Mapping[str, str]) -> tuple[Header, ...]:
    """Return the same of the limit that refused a call, which its error tells; none where no limit did."""
    if "metric" not in metadata:
        return ()
    used = int(metadata["spent"]) + int(metadata["held"])
    headers: list[Header] = [("x-codex-primary-used-percent", _percent(used, int(metadata["limit"])))]
    minutes = _WINDOW_MINUTES.get(metadata.get("window", ""))
    if minutes is not None:
        headers.append(("x-codex-primary-window-minutes", str(minutes)))
    if metadata.get("reset_at"):
        reset = datetime.fromisoformat(metadata["reset_at"]).timestamp()
        headers.append(("x-codex-primary-reset-at", str(int(reset))))
    return tuple(headers)


def _percent(used: int, limit: int) -> str:
    return f"{min(100 * used / max(limit, 1), 100):.1f}"
