"""`tokendance doctor` as a command: what it prints, what it never prints, and its exit codes."""

import json
import socket
from pathlib import Path

import pytest
from tests.tools.tokendance_cli.checkup.conftest import KEY, REQUEST_ID, ScriptedGateway, refused, scripted
from tests.tools.tokendance_cli.conftest import Run

__all__ = ["scripted"]

CHECKS = ["credential", "base url", "gateway", "clock", "key", "models", "completion", "streaming"]


def test_a_healthy_way_is_exit_code_0(run: Run, scripted: ScriptedGateway) -> None:
    """One line a check, in order; the request id of the last call for support; the key nowhere."""
    told = run("doctor", TOKENDANCE_BASE_URL=scripted.url, TOKENDANCE_API_KEY=KEY, TOKENDANCE_MODEL="fast")
    assert told.returncode == 0
    lines = told.stdout.splitlines()
    assert [line[9:21].strip() for line in lines] == CHECKS
    assert {line.split()[0] for line in lines} == {"ok"}
    assert told.stderr == f"TOKENDANCE_REQUEST_ID={REQUEST_ID}\n"
    assert KEY not in told.stdout


def test_json_says_the_same_to_programs(run: Run, scripted: ScriptedGateway) -> None:
    """Checks with state, words and advice; what was spent; the exit code."""
    scripted.script["models"] = refused("key_revoked", 401)
    told = run("doctor", "--format", "json", TOKENDANCE_BASE_URL=scripted.url, TOKENDANCE_API_KEY=KEY)
    document = json.loads(told.stdout)
    assert (told.returncode, document["exit_code"], document["ok"]) == (1, 1, False)
    assert document["request_id"] == REQUEST_ID
    assert document["spent"] == {"requests": 0, "input_tokens": 0, "output_tokens": 0}
    assert [one["check"] for one in document["checks"]] == CHECKS
    key = document["checks"][4]
    assert (key["state"], key["code"], bool(key["do"])) == ("failed", "key_revoked", True)


@pytest.mark.parametrize("credential", ["", "sk-ant-api03-secret-of-others", KEY[:-1]])
def test_a_wrong_credential_is_exit_code_2(run: Run, scripted: ScriptedGateway, credential: str) -> None:
    """Named, not shown, not sent."""
    told = run("doctor", TOKENDANCE_BASE_URL=scripted.url, TOKENDANCE_API_KEY=credential)
    assert told.returncode == 2
    assert told.stdout.startswith("FAILED   credential")
    assert not credential or credential not in told.stdout + told.stderr
    assert scripted.keys_seen() == []


def test_no_gateway_is_exit_code_3(run: Run) -> None:
    """Nothing listens there."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
        told = run("doctor", "--base-url", url, TOKENDANCE_API_KEY=KEY)
    assert told.returncode == 3
    assert "FAILED   gateway" in told.stdout


@pytest.mark.parametrize(
    "url",
    [
        "gateway.example/v1",
        "ftp://gateway.example",
        "https://u:secret@gateway.example/v1",
        "https://h/?secret",
        "https://h:x",
    ],
)
def test_what_is_no_base_url_is_exit_code_2(run: Run, url: str) -> None:
    """What could be a secret in it is not shown."""
    told = run("doctor", "--base-url", url, TOKENDANCE_API_KEY=KEY)
    assert told.returncode == 2
    assert "base URL" in told.stderr
    assert "secret" not in told.stdout + told.stderr


def test_the_key_may_be_in_a_file(run: Run, scripted: ScriptedGateway, tmp_path: Path) -> None:
    """The file is named instead of the variable, and --skip-completion spends nothing."""
    (tmp_path / "key").write_text(f"{KEY}\n", encoding="utf-8")
    told = run("doctor", "--key-file", "key", "--skip-completion", "--base-url", scripted.url)
    assert told.returncode == 0
    assert "ok       credential   key holds a TokenDance API key" in told.stdout
    assert "skipped  completion" in told.stdout
    assert {path for path, _ in scripted.asked} == {"/v1/models"}


def test_help_tells_the_exit_codes_and_the_cost(run: Run) -> None:
    """Before anything is spent."""
    words = " ".join(run("doctor", "--help").stdout.replace("│", " ").split())
    assert "Exit codes: 0 all is well" in words
    assert "cost a request each" in words
