"""`tokendance models` over REST: what it asks, what it prints, and what it says when it fails."""

import json
import socket
from pathlib import Path

from tests.tools.tokendance_cli.conftest import Reply, Run, SmallGateway, json_reply

MODELS = {
    "object": "list",
    "data": [
        {
            "id": "demo-echo",
            "object": "model",
            "created": 1_750_000_000,
            "owned_by": "tokendance",
            "display_name": "Demo",
            "context_window": 1000,
            "capabilities": ["completions", "tools"],
        },
        {"id": "\x1b[31mred", "object": "model", "created": 0, "owned_by": "tokendance"},
    ],
}


def test_list_prints_one_line_a_model(as_holder: Run, gateway: SmallGateway) -> None:
    """The key travels as a bearer token; the request id goes to standard error."""
    gateway.reply = json_reply(MODELS)
    told = as_holder("models", "list")
    assert told.returncode == 0
    assert told.stdout.splitlines()[1].split() == ["demo-echo", "Demo", "1000", "completions,", "tools"]
    assert told.stderr == "TOKENDANCE_REQUEST_ID=req_1\n"
    method, path, headers, _ = gateway.asked[0]
    assert (method, path, headers["authorization"]) == ("GET", "/v1/models", "Bearer tdk_made-up")


def test_names_cannot_steer_the_terminal(as_holder: Run, gateway: SmallGateway) -> None:
    """Control characters of others are replaced in tables."""
    gateway.reply = json_reply(MODELS)
    assert "\x1b" not in as_holder("models", "list").stdout


def test_list_as_json_is_the_list(as_holder: Run, gateway: SmallGateway) -> None:
    """Programs get the objects as the gateway gave them, and nothing else on standard output."""
    gateway.reply = json_reply(MODELS)
    assert json.loads(as_holder("models", "list", "--format", "json").stdout) == MODELS["data"]


def test_show_quotes_the_name(as_holder: Run, gateway: SmallGateway) -> None:
    """A name with a slash is one segment of the path."""
    gateway.reply = json_reply({"id": "meta/small", "object": "model", "created": 1_750_000_000})
    told = as_holder("models", "show", "meta/small")
    assert told.stdout.split() == ["id", "meta/small", "created", "2025-06-15"]
    assert gateway.asked[0][1] == "/v1/models/meta%2Fsmall"


def test_refusal_shows_code_request_id_and_what_to_check(as_holder: Run, gateway: SmallGateway) -> None:
    """The stable code of the header is shown, with the table's advice."""
    body = {"error": {"message": "No such model.", "code": "other_word", "param": "model", "type": "x"}}
    gateway.reply = json_reply(body, 404, x_tokendance_error_code="model_not_found")
    told = as_holder("models", "show", "none")
    assert (told.returncode, told.stdout) == (1, "")
    assert "model_not_found: No such model. (model)" in told.stderr
    assert "Check first:" in told.stderr
    assert told.stderr.splitlines()[-1] == "TOKENDANCE_REQUEST_ID=req_1"


def test_answer_of_somebody_else_is_told(as_holder: Run, gateway: SmallGateway) -> None:
    """A proxy's page, with whatever status, is not taken for the gateway's answer, and not shown."""
    for status in (200, 502):
        gateway.reply = Reply(b"<html>secret-page</html>", status, {"Content-Type": "text/html"})
        told = as_holder("models", "list")
        assert told.returncode == 1
        assert f"HTTP {status}" in told.stderr
        assert "secret-page" not in told.stderr


def test_redirects_are_not_followed(as_holder: Run, gateway: SmallGateway) -> None:
    """The key never goes to whoever a redirect names."""
    gateway.reply = Reply(b"", 307, {"Location": gateway.url + "/elsewhere"})
    told = as_holder("models", "list")
    assert told.returncode == 1
    assert len(gateway.asked) == 1


def test_missing_key_is_told(run: Run, gateway: SmallGateway) -> None:
    """Without a key nothing is sent; the line says which variable to set."""
    told = run("models", "list", TOKENDANCE_BASE_URL=gateway.url)
    assert told.returncode == 2
    assert "TOKENDANCE_API_KEY" in told.stderr
    assert gateway.asked == []


def test_flags_win_over_the_environment(run: Run, gateway: SmallGateway, tmp_path: Path) -> None:
    """Base URL and key file given as flags replace the variables."""
    gateway.reply = json_reply({"data": []})
    (tmp_path / "key").write_text("tdk_from-file\n", encoding="utf-8")
    told = run(
        "models", "list", "--base-url", gateway.url + "/", "--key-file", "key",
        TOKENDANCE_BASE_URL="http://127.0.0.1:1/v1", TOKENDANCE_API_KEY="tdk_environment",
    )  # fmt: skip
    assert told.returncode == 0
    assert gateway.asked[0][2]["authorization"] == "Bearer tdk_from-file"


def test_nothing_answers_is_exit_code_3(run: Run) -> None:
    """A gateway that cannot be reached is told with its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
        told = run("models", "list", TOKENDANCE_BASE_URL=url, TOKENDANCE_API_KEY="tdk_made-up")
    assert told.returncode == 3
    assert url in told.stderr


def test_what_is_no_base_url_is_wrong_usage(run: Run) -> None:
    """Only http and https addresses are called."""
    told = run("models", "list", TOKENDANCE_BASE_URL="file:///etc", TOKENDANCE_API_KEY="tdk_made-up")
    assert told.returncode == 2
