"""`tokendance context`, and which node a command speaks to."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.tools.tokendance_cli.conftest import Run

SET = ("context", "set", "work", "--server", "gateway.example.com:50051")


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """The folder of a user's configuration, not there yet."""
    return tmp_path / "config" / "tokendance"


@pytest.fixture
def told(run: Run, config: Path) -> Callable[..., Any]:
    """Runs a command with that configuration."""

    def call(*arguments: str, stdin: str = "", **variables: str) -> Any:
        return run(*arguments, stdin=stdin, XDG_CONFIG_HOME=str(config.parent), **variables)

    return call


def test_contexts_are_kept_for_their_user_alone(told: Any, config: Path) -> None:
    """Made, changed in part, used, listed and removed; files 0600, folders 0700."""
    assert told(*SET, "--issuer", "https://id.example.com", "--client-id", "cli", "--use").returncode == 0
    assert told("context", "set", "other", "--server", "127.0.0.1:1", "--plaintext").returncode == 0
    assert told("context", "set", "work", "--audience", "https://gateway").returncode == 0
    listed = json.loads(told("--format", "json", "context", "list").stdout)
    assert [(one["name"], one["current"], one["plaintext"]) for one in listed] == [
        ("other", False, True),
        ("work", True, False),
    ]
    assert (listed[1]["issuer"], listed[1]["client_id"]) == ("https://id.example.com", "cli")
    assert (listed[1]["audience"], listed[1]["scope"]) == ("https://gateway", "openid offline_access")
    assert stat.S_IMODE((config / "contexts.json").stat().st_mode) == 0o600
    assert stat.S_IMODE(config.stat().st_mode) == 0o700
    assert "*  work" in told("context", "list").stdout
    assert told("context", "use", "other").returncode == 0
    assert told("context", "remove", "other").returncode == 0
    assert "*" not in told("context", "list").stdout
    assert told("context", "use", "--none").returncode == 0
    assert told("context", "remove", "other").returncode == 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("work",), "--server"),
        (("work", "--server", "gateway"), "HOST:PORT"),
        (("work", "--server", "gateway:0"), "HOST:PORT"),
        (("work", "--server", "https://gateway:1"), "HOST:PORT"),
        (("work", "--server", "gateway:1", "--plaintext"), "can be read on the way"),
        (("work", "--server", "127.0.0.1:1", "--plaintext", "--ca", "x.pem"), "exclude"),
        (("work", "--server", "gateway:1", "--client-key", "x.key"), "go together"),
        (("work", "--server", "gateway:1", "--issuer", "http://id.example.com"), "https://"),
        (("work", "--server", "gateway:1", "--issuer", "id.example.com"), "https://"),
        (("../work", "--server", "gateway:1"), "letters"),
        (("", "--server", "gateway:1"), "letters"),
    ],
)
def test_what_would_be_unsafe_is_not_set(told: Any, config: Path, arguments: tuple[str, ...], words: str) -> None:
    """In one line, and nothing is written."""
    done = told("context", "set", *arguments)
    assert done.returncode == 2
    assert words in done.stderr
    assert not config.exists()


@pytest.mark.parametrize("content", ["", "[]", "{", '{"contexts": 5}', '{"contexts": {"work": {}}}'])
def test_a_damaged_file_is_told(told: Any, config: Path, content: str) -> None:
    """With the way out."""
    config.mkdir(parents=True)
    file = config / "contexts.json"
    file.write_text(content)
    file.chmod(0o600)
    done = told("context", "list")
    assert done.returncode == 1
    assert "remove it" in done.stderr


def test_a_file_that_others_may_read_is_not_used(told: Any, config: Path) -> None:
    """They may have read it, and may come to change it."""
    assert told(*SET, "--use").returncode == 0
    (config / "contexts.json").chmod(0o644)
    done = told("whoami")
    assert done.returncode == 1
    assert "chmod 600" in done.stderr


WAYS: dict[str, tuple[tuple[str, ...], dict[str, str], str]] = {
    "nothing": ((), {}, "No node is running on the data directory .tokendance"),
    "a data directory": (("--data-dir", "d"), {"TOKENDANCE_CONTEXT": "work"}, "No node is running on the data dir"),
    "a context": (("--context", "work"), {"TOKENDANCE_GATEWAY_SERVER__DATA_DIR": "d"}, "not signed in at gateway."),
    "its variable": ((), {"TOKENDANCE_CONTEXT": "work", "TOKENDANCE_GATEWAY_SERVER__DATA_DIR": "d"}, "at gateway."),
    "a data directory's variable": ((), {"TOKENDANCE_GATEWAY_SERVER__DATA_DIR": "d"}, "the data directory d"),
    "both": (("--context", "work", "--data-dir", "d"), {}, "exclude each other"),
    "no such": (("--context", "play"), {}, "There is no context 'play'"),
}


@pytest.mark.parametrize("way", WAYS)
def test_which_node_a_command_is_for(told: Any, way: str) -> None:
    """What was typed wins over the environment, and that over the context in use."""
    flags, variables, words = WAYS[way]
    assert told(*SET).returncode == 0
    done = told(*flags, "keys", "list", **variables)
    assert done.returncode != 0
    assert words in done.stderr


def test_the_context_in_use_is_for_every_command(told: Any) -> None:
    """Unless a data directory is named, also by the command's own option."""
    assert told(*SET, "--use").returncode == 0
    for command in ("keys", "organizations", "teams", "members", "audit", "providers"):
        assert "at gateway.example.com:50051 (context work)" in told(command, "list").stderr
    assert "the data directory d" in told("keys", "list", "--data-dir", "d").stderr


@pytest.mark.parametrize("token", ["eyJ a", "eyJ\nx", "eyJé"])
def test_what_is_no_token_is_not_sent(told: Any, token: str) -> None:
    """It would end up in the words of some library."""
    assert told(*SET, "--use").returncode == 0
    done = told("whoami", TOKENDANCE_ID_TOKEN=token)
    assert done.returncode == 2
    assert token not in done.stderr


def test_a_server_that_is_not_there_is_told(told: Any) -> None:
    """With the context that named it."""
    assert told("context", "set", "work", "--server", "127.0.0.1:9", "--plaintext", "--use").returncode == 0
    done = told("whoami", TOKENDANCE_ID_TOKEN="eyJh.eyJh.x")
    assert done.returncode == 3
    assert "127.0.0.1:9 (context work) cannot be reached" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "variables", "words"),
    [
        (("login",), {}, "No context is in use"),
        (("logout",), {}, "No context is in use"),
        (("--context", "work", "login"), {}, "names no identity provider"),
        (("--context", "work", "login", "--device", "--client-credentials"), {}, "exclude"),
        (("--context", "work", "login", "--client-credentials"), {}, "The secret of the program is needed"),
    ],
)
def test_a_sign_in_needs_somewhere_to_go(
    told: Any, arguments: tuple[str, ...], variables: dict[str, str], words: str
) -> None:
    """And says what is missing."""
    assert told(*SET).returncode == 0
    done = told(*arguments, **variables)
    assert done.returncode == 2
    assert words in done.stderr


def test_signing_out_twice_is_harmless(told: Any, config: Path) -> None:
    """There is nothing left to end."""
    assert told(*SET, "--use").returncode == 0
    for _ in range(2):
        assert told("logout").returncode == 0
    assert list((config / "tokens").glob("*.json")) == []
