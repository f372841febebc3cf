"""The facade's settings."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from tokendance_facade.config import FacadeConfig, parse_address


def test_the_defaults_are_loopback() -> None:
    """Nothing is reachable from elsewhere unless somebody says so."""
    config = FacadeConfig()
    assert (config.http, config.internal) == ("127.0.0.1:8080", "127.0.0.1:8081")
    assert config.max_body_bytes == 32 * 1024 * 1024
    assert (config.cors_origins, config.trusted_proxies) == ((), ())


def test_addresses() -> None:
    """Host and port, IPv6 in brackets, or a Unix socket."""
    assert parse_address("[::1]:0") == ("::1", 0)
    assert parse_address("localhost:80") == ("localhost", 80)
    assert parse_address("unix:///run/a") == "/run/a"


@pytest.mark.parametrize(
    "settings",
    [
        {"http": "8080"},
        {"http": "a:99999"},
        {"internal": "unix://run"},
        {"trusted_proxies": ("proxy.example",)},
        {"cors_origins": ("app.example",)},
        {"cors_origins": ("https://app.example/path",)},
        {"max_body_bytes": 0},
        {"keepalive_s": 0},
        {"unknown": 1},
    ],
)
def test_nonsense_is_refused_at_start(settings: dict[str, Any]) -> None:
    """Whole and at once, rather than at the first request."""
    with pytest.raises(ValidationError):
        FacadeConfig(**settings)
