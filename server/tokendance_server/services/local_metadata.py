"""The rules of gRPC metadata, checked where no gRPC core does it."""

from __future__ import annotations

import re
from collections.abc import Iterable

_KEY = re.compile(r"[0-9a-z_.\-]+")
# What a connection takes for itself and hands to no servicer; all that starts with `grpc-` is gRPC's own too.
_TRANSPORTS_OWN = frozenset(
    {
        "-bin",
        "content-length",
        "content-type",
        "endpoint-load-metrics-bin",
        "lb-cost-bin",
        "te",
        "user-agent",
        "x-envoy-peer-metadata",
    }
)
_known_keys: set[str] = set()


def check_metadata(metadata: Iterable[tuple[str, str | bytes]] | None) -> tuple[tuple[str, str | bytes], ...]:
    """Return the pairs; raises ValueError where gRPC would refuse them, or keep them for itself.

    Keys are lower case letters, digits, `_`, `-` and `.`, and none that the transport uses itself; values are
    printable ASCII, or bytes under a key that ends in `-bin`.
    """
    if metadata is None:
        return ()
    pairs = tuple(metadata)
    for key, value in pairs:
        if key not in _known_keys:
            if not _KEY.fullmatch(key) or key.startswith("grpc-") or key in _TRANSPORTS_OWN:
                raise ValueError(f"metadata was invalid: the key {key!r} is not a legal one")
            if len(_known_keys) < 256:  # keys are few and fixed; a caller's variety must not grow memory
                _known_keys.add(key)
        if key.endswith("-bin"):
            legal = isinstance(value, bytes)
        else:
            legal = isinstance(value, str) and value.isascii() and value.isprintable()
        if not legal:
            raise ValueError(f"metadata was invalid: the value of {key!r} is not legal")
    return pairs
