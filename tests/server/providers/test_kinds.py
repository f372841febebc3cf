"""From configuration to upstreams."""

import pytest

from tokendance_server.domain.catalogue.models import ProviderConfig
from tokendance_server.domain.egress import EgressPolicy
from tokendance_server.providers.demo import DemoUpstream
from tokendance_server.providers.kinds import build_upstream
from tokendance_server.providers.relay import HttpUpstream
from tokendance_server.providers.transport import open_transport

TRANSPORT = open_transport("lean", EgressPolicy())


def test_each_kind_has_its_upstream() -> None:
    """The demo needs nothing, the other an address."""
    assert isinstance(build_upstream(ProviderConfig(id="d", kind="demo"), TRANSPORT), DemoUpstream)
    openai = ProviderConfig(id="o", kind="openai", base_url="https://example.com/v1")
    assert isinstance(build_upstream(openai, TRANSPORT), HttpUpstream)


@pytest.mark.parametrize(
    ("provider", "why"),
    [
        (ProviderConfig(id="x", kind="other"), "unknown kind of provider: 'other'"),
        (
            ProviderConfig(
                id="x", kind="openai", base_url="https://example.com", capabilities=frozenset({"max_token"})
            ),
            "unknown capabilities: max_token",
        ),
        (ProviderConfig(id="x", kind="openai"), "base_url"),
    ],
)
def test_what_cannot_be_built_is_said_at_start(provider: ProviderConfig, why: str) -> None:
    """In one sentence that helps."""
    with pytest.raises(ValueError, match=why):
        build_upstream(provider, TRANSPORT)
