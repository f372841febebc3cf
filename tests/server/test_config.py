"""Settings that are URLs and references: refused in words that hold nothing of them."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from tokendance_server.config import ServerConfig


def _mistake(**settings: object) -> str:
    with pytest.raises(ValidationError) as caught:
        ServerConfig.model_validate(settings)
    assert "hunter2" not in str(caught.value)
    (mistake,) = caught.value.errors(include_url=False, include_input=False, include_context=False)
    return str(mistake["msg"])


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:hunter2@db.example:5432/gateway",
        "postgres://u:p%2Fw%40@[::1]/gateway?sslmode=verify-full",
        "postgresql://u@/gateway?host=/run/postgresql",
        "postgresql://a:1,b:2/gateway",
    ],
)
def test_a_database_by_url(url: str) -> None:
    """In the forms of PostgreSQL's own programs; shown, it is hidden."""
    config = ServerConfig.model_validate({"database_url": url})
    assert config.database_url is not None
    assert config.database_url.get_secret_value() == url
    assert url not in repr(config)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("mysql://u:hunter2@db/x", "without the setting the node keeps a SQLite file"),
        ("sqlite:///x.db", "without the setting the node keeps a SQLite file"),
        ("hunter2", "without the setting the node keeps a SQLite file"),
        ("postgresql+asyncpg://u:hunter2@db/x", "without the setting"),
        ("postgresql://u:hunter2@db", "the host or the name is missing"),
        ("postgresql://u:hunter2@db/", "the host or the name is missing"),
        ("postgresql://u:hunter2@/x", "the host or the name is missing"),
        ("postgresql://u:hun#ter2@db/x", "are written %2F"),
        ("postgresql://u:1/hunter2@db/x", "the host or the name is missing"),
        ("postgresql://u:x/hunter2@db/x", "are written %2F"),
        ("postgresql://u:hunter2@db:x/x", "are written %2F"),
        ("postgresql://u:1/hunter2@db", "are written %2F"),
        ("postgresql://u:1?hunter2@db/x", "are written %2F"),
        ("postgresql://u:hunter2@[::1/x", "are written %2F"),
    ],
)
def test_what_is_no_url_of_a_database_is_told(url: str, said: str) -> None:
    """With the form that it should have."""
    mistake = _mistake(database_url=url)
    assert said in mistake
    assert "postgresql://USER:PASSWORD@HOST:PORT/NAME" in mistake


@pytest.mark.parametrize("url", ["localhost:6379", "http://u:hunter2@x", "REDIS://x"])
def test_what_is_no_url_of_redis_is_told(url: str) -> None:
    """With the form that it should have."""
    assert "redis://:PASSWORD@HOST:PORT/0" in _mistake(redis_url=url)


@pytest.mark.parametrize("pepper", ["hunter2", "env:HOME", "env:TOKENDANCE_PROVIDER_X", "FILE:x"])
def test_a_pepper_is_a_reference(pepper: str) -> None:
    """Never the pepper itself, and no variable of anything else."""
    assert "never the secret itself" in _mistake(pepper=pepper)


TLS = {"certificate": "c.pem", "key": "c.key", "client_ca": "ca.pem"}
BILLING = {"certificate_name": "billing.example", "name": "billing"}


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"tls": TLS | {"client_ca": None, "services": [BILLING]}}, "services need client_ca"),
        ({"tls": TLS | {"services": [BILLING, BILLING | {"name": "other"}]}}, "two of them have one certificate_name"),
        ({"tls": TLS | {"services": [BILLING | {"certificate_name": "*.example"}]}}, "String should match"),
        ({"tls": TLS | {"services": [BILLING | {"organization": "acme"}]}}, "organizations/org_"),
        ({"tls": TLS, "grpc": ""}, "needs grpc"),
        ({"grpc_public_tls": {"certificate": "c.pem", "key": "c.key"}}, "needs grpc_public"),
        ({"grpc_public": "50053"}, "host:port"),
    ],
)
def test_doors_that_make_no_sense_are_refused(settings: dict[str, object], said: str) -> None:
    """A pattern of names would let every machine of a domain be the service."""
    assert said in _mistake(**settings)
