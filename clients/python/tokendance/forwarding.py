"""The headers by which proxies tell of themselves; who sends one did not come straight from the caller."""

from __future__ import annotations

from collections.abc import Iterable

_NAMES = frozenset(
    {
        "forwarded", "via", "x-real-ip", "x-client-ip", "x-cluster-client-ip", "x-original-forwarded-for",
        "true-client-ip", "cf-connecting-ip", "fastly-client-ip", "x-envoy-external-address", "x-original-url",
        "x-original-host", "x-rewrite-url", "proxy-connection",
    }
)  # fmt: skip


def is_forwarded(names: Iterable[str]) -> bool:
    """Tell whether header names, or keys of metadata, hold one that only a proxy adds."""
    return any(name in _NAMES or name.startswith("x-forwarded") for name in map(str.lower, names))
