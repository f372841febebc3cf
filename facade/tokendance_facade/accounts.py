"""What an answer costs and leaves of its caller's limits, as headers: OpenAI's for the limits, our own for the rest."""

from __future__ import annotations

from collections.abc import Mapping

from tokendance.gateway.v1 import completion_pb2 as pb
from tokendance_facade.answers import Header

_UNSAFE = str.maketrans(dict.fromkeys(map(chr, (*range(32), *range(127, 256))), "?"))
_TOKEN_METRICS = frozenset({"input_tokens", "output_tokens", "total_tokens"})


def account_headers(account: pb.CallAccount) -> tuple[Header, ...]:
    """Return `x-ratelimit-*` of the tightest limits, the cost in micro-USD, who served and how, what is replayed."""
    headers: list[Header] = []
    if account.HasField("requests"):
        headers += _rate("requests", account.requests)
    if account.HasField("tokens"):
        headers += _rate("tokens", account.tokens)
    if account.HasField("cost_micros"):
        headers.append(("x-tokendance-cost-micros", str(account.cost_micros)))
    if account.estimated:
        headers.append(("x-tokendance-estimated", "true"))
    if account.quota_warnings:
        headers.append(("x-tokendance-quota-warning", ", ".join(account.quota_warnings)))
    if account.served_by:
        headers.append(("x-tokendance-served-by", account.served_by.translate(_UNSAFE)))
    if account.retries:
        headers.append(("x-tokendance-retries", str(account.retries)))
    if account.fallback_model:
        headers.append(("x-tokendance-fallback", account.fallback_model.translate(_UNSAFE)))
    if account.replay_of:
        headers.append(("x-tokendance-replay-of", account.replay_of.translate(_UNSAFE)))
    return tuple(headers)


def refusal_headers(metadata: Mapping[str, str], wait_s: int | None) -> list[Header]:
    """Return `x-ratelimit-*` of the limit that refused a call, which its error tells."""
    metric = metadata.get("metric", "")
    unit = "requests" if metric == "requests" else "tokens" if metric in _TOKEN_METRICS else ""
    if not unit:
        return []
    left = max(int(metadata["limit"]) - int(metadata["spent"]) - int(metadata["held"]), 0)
    headers: list[Header] = [
        (f"x-ratelimit-limit-{unit}", metadata["limit"]),
        (f"x-ratelimit-remaining-{unit}", str(left)),
    ]
    if wait_s is not None:
        headers.append((f"x-ratelimit-reset-{unit}", span(wait_s * 1000)))
    return headers


def span(milliseconds: int) -> str:
    """Return a time as OpenAI writes it in these headers: `250ms`, `6.5s`, `1m30s`, `2h0m0s`."""
    if milliseconds < 1000:
        return f"{milliseconds}ms"
    minutes, rest = divmod(milliseconds, 60_000)
    seconds = f"{rest / 1000:g}s"
    if not minutes:
        return seconds
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes}m{seconds}" if hours else f"{minutes}m{seconds}"


def _rate(unit: str, standing: pb.RateStanding) -> list[Header]:
    headers = [
        (f"x-ratelimit-limit-{unit}", str(standing.limit)),
        (f"x-ratelimit-remaining-{unit}", str(standing.remaining)),
    ]
    if standing.HasField("reset"):
        headers.append((f"x-ratelimit-reset-{unit}", span(standing.reset.ToMilliseconds())))
    return headers
