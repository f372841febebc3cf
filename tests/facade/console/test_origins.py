"""Under which names the console is reached."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import ValidationError

from tokendance.errors import GatewayError
from tokendance_facade.config import ConsoleConfig
from tokendance_facade.console.origins import Origins


def origin(bound: str, host: str, **settings: Any) -> str:
    """Return the origin of a request with this Host header."""
    request: Any = SimpleNamespace(headers={"Host": host})
    return Origins(ConsoleConfig(**settings), lambda: bound).of(request)


@pytest.mark.parametrize(
    ("bound", "host", "settings", "expected"),
    [
        ("http://127.0.0.1:8081", "127.0.0.1:8081", {}, "http://127.0.0.1:8081"),
        ("http://127.0.0.1:8081", "LOCALHOST:8081", {}, "http://localhost:8081"),
        ("http://[::1]:8081", "[::1]:8081", {}, "http://[::1]:8081"),
        ("https://10.0.0.5:8081", "10.0.0.5:8081", {}, "https://10.0.0.5:8081"),
        ("https://0.0.0.0:443", "c.example:443", {"hosts": ("c.example:443",)}, "https://c.example:443"),
        ("http://127.0.0.1:8081", "c.example", {"url": "https://c.example/"}, "https://c.example"),
    ],
)
def test_known_names_lead_to_it(bound: str, host: str, settings: dict[str, Any], expected: str) -> None:
    """The listener's own, those of this machine, and those of the settings."""
    assert origin(bound, host, **settings) == expected


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8081", "127.0.0.1", "127.0.0.1:80", ""])
def test_other_names_do_not(host: str) -> None:
    """Another port is another name."""
    with pytest.raises(GatewayError) as caught:
        origin("http://127.0.0.1:8081", host)
    assert caught.value.code == "invalid_request"


def test_sessions_do_not_travel_in_plain_text() -> None:
    """Beyond this machine there is TLS, or no console."""
    with pytest.raises(GatewayError) as caught:
        origin("http://10.0.0.5:8081", "10.0.0.5:8081")
    assert caught.value.code == "gateway_misconfigured"


@pytest.mark.parametrize("url", ["http://c.example", "ftp://c.example", "https://c.example/console", "c.example"])
def test_an_address_that_cannot_be_is_told_at_start(url: str) -> None:
    """It is https, and has no path."""
    with pytest.raises(ValidationError):
        ConsoleConfig(url=url)
