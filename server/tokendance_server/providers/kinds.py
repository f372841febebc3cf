"""The kinds of provider that configuration may name, and how each is built."""

from __future__ import annotations

from tokendance_server.domain.catalogue.models import ProviderConfig
from tokendance_server.domain.upstream import Upstream
from tokendance_server.providers.continuing import ContinuingUpstream
from tokendance_server.providers.demo import DemoUpstream
from tokendance_server.providers.gemini.unsigned import UnsignedUpstream
from tokendance_server.providers.relay import HttpUpstream
from tokendance_server.providers.sse import DEFAULT_EVENT_BYTES
from tokendance_server.providers.transport import Transport
from tokendance_server.providers.ways import check_way
from tokendance_server.providers.wire_formats import KINDS, WIRE_FORMATS

__all__ = ["KINDS", "build_upstream"]


def build_upstream(
    provider: ProviderConfig, transport: Transport, *, event_bytes: int = DEFAULT_EVENT_BYTES
) -> Upstream:
    """Return the upstream of a configured provider; `event_bytes` is the largest event of a stream.

    Raises ValueError for an unknown kind or capability, and for a base URL, header or credential that cannot be sent;
    the message holds no secret.
    """
    if provider.kind == "demo":
        return DemoUpstream()
    check_way(provider)
    make_codec = WIRE_FORMATS.get(provider.kind)
    if make_codec is None:
        raise ValueError(f"unknown kind of provider: {provider.kind!r}; known are {', '.join(KINDS)}")
    upstream = HttpUpstream(make_codec(provider.capabilities, event_bytes=event_bytes), transport, provider)
    return ContinuingUpstream(UnsignedUpstream(upstream)) if provider.kind == "gemini" else upstream
