"""Settings: which source wins, and how all mistakes are told at once without a secret."""

from pathlib import Path

import pytest

from tokendance_cli.failures import CommandError
from tokendance_cli.settings import load_settings

FILE = """
[server]
grpc = "127.0.0.1:1"
data_dir = "from-file"
log_level = "error"

[server.limits]
in_flight = 7

[facade]
http = "127.0.0.1:2"

[[providers]]
name = "local"
kind = "openai"
base_url = "http://127.0.0.1:9/v1"

[[models]]
name = "fast"
routes = [{ provider = "local", upstream_model = "x" }]
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file with something of everything."""
    path = tmp_path / "gateway.toml"
    path.write_text(FILE, encoding="utf-8")
    return path


def test_flags_win_over_environment_over_file(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each source replaces single settings, never whole tables."""
    monkeypatch.setenv("TOKENDANCE_GATEWAY_SERVER__GRPC", "127.0.0.1:3")
    monkeypatch.setenv("TOKENDANCE_GATEWAY_SERVER__LOG_LEVEL", "debug")
    monkeypatch.setenv("TOKENDANCE_GATEWAY_FACADE__CORS_ORIGINS", "https://a.example, https://b.example")
    monkeypatch.setenv("TOKENDANCE_GATEWAY_SERVER__LIMITS__UPSTREAM_EVENT_BYTES", "8192")
    settings = load_settings(file, {"server": {"grpc": "127.0.0.1:4", "data_dir": None}, "facade": {}})
    assert settings.server.grpc == "127.0.0.1:4"
    assert settings.server.log_level == "debug"
    assert settings.server.data_dir == Path("from-file")
    assert (settings.server.limits.in_flight, settings.server.limits.upstream_event_bytes) == (7, 8192)
    assert settings.facade.http == "127.0.0.1:2"
    assert settings.facade.cors_origins == ("https://a.example", "https://b.example")
    assert settings.providers[0].name == "local"
    assert settings.models[0].routes[0].upstream_model == "x"


def test_defaults_need_no_file() -> None:
    """Without a word the node is embedded: loopback and .tokendance."""
    settings = load_settings(None, {})
    assert settings.server.grpc == "127.0.0.1:50051"
    assert settings.server.data_dir == Path(".tokendance")
    assert settings.providers == ()


def test_every_mistake_is_told_with_its_place(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """File, variable, flag and field are named, all at once, and no value is shown."""
    secret = "sk-a-real-key"
    file.write_text(
        FILE.replace('base_url = "http://127.0.0.1:9/v1"', f'base_url = "http://x"\ncredential = "{secret}"').replace(
            'http = "127.0.0.1:2"', 'htp = "127.0.0.1:2"'
        ),
        encoding="utf-8",
    )
    monkeypatch.setenv("TOKENDANCE_GATEWAY_SERVER__LOG_LEVEL", secret)
    monkeypatch.setenv("TOKENDANCE_GATEWAY_SERVER__LIMITS__IN_FLIGHT", "many")
    monkeypatch.setenv("TOKENDANCE_GATEWAY_SERVR__GRPC", "127.0.0.1:3")
    with pytest.raises(CommandError) as caught:
        load_settings(file, {"server": {"grpc": "nowhere"}, "facade": {}})
    told = sorted(caught.value.hints)
    assert caught.value.exit_code == 2
    assert secret not in " ".join(told)
    places = [line.rsplit(": ", 1)[0].removeprefix(f"{file.parent}/") for line in told]
    expected = [
        "--grpc: server.grpc",
        "environment variable TOKENDANCE_GATEWAY_SERVER__LIMITS__IN_FLIGHT: server.limits.in_flight",
        "environment variable TOKENDANCE_GATEWAY_SERVER__LOG_LEVEL: server.log_level",
        "environment variable TOKENDANCE_GATEWAY_SERVR__GRPC",
        "gateway.toml: facade.htp",
        "gateway.toml: providers[0]",
    ]
    assert [place for place in expected if not any(found.startswith(place) for found in places)] == []
    assert len(told) == len(expected)


def test_unknown_nested_variable_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """A slip in a variable's name is no silent default."""
    monkeypatch.setenv("TOKENDANCE_GATEWAY_SERVER__GRCP", "127.0.0.1:3")
    with pytest.raises(CommandError) as caught:
        load_settings(None, {})
    assert caught.value.hints == (
        "environment variable TOKENDANCE_GATEWAY_SERVER__GRCP: server.grcp: there is no such setting",
    )


@pytest.mark.parametrize(("text", "what"), [("[server", "not valid TOML"), (None, "cannot be read")])
def test_file_that_is_none_is_told(tmp_path: Path, text: str | None, what: str) -> None:
    """A missing or broken file is one line with its name."""
    path = tmp_path / "gateway.toml"
    if text is not None:
        path.write_text(text, encoding="utf-8")
    with pytest.raises(CommandError, match=what) as caught:
        load_settings(path, {})
    assert "gateway.toml" in caught.value.message
