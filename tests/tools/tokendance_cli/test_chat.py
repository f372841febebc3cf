"""`tokendance chat`: an answer that streams, and every way in which it may not."""

import json
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from tests.tools.tokendance_cli.conftest import (
    Run,
    SmallGateway,
    command_environment,
    json_reply,
    sse_reply,
)


def _chunk(text: str, finish_reason: str | None = None) -> dict[str, Any]:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": finish_reason}
    return {"model": "m", "choices": [choice]}


USAGE = {"model": "m", "choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 2}}


def test_answer_is_printed_and_the_request_id_is_beside_it(as_holder: Run, gateway: SmallGateway) -> None:
    """Standard output holds the answer alone."""
    gateway.reply = sse_reply(_chunk("Hel"), _chunk("lo"), _chunk("", "stop"), USAGE)
    told = as_holder("chat", "m", "Hi", "--system", "Be brief", "--max-tokens", "9")
    assert (told.returncode, told.stdout) == (0, "Hello\n")
    assert told.stderr == "TOKENDANCE_REQUEST_ID=req_1\n"
    _, path, _, body = gateway.asked[0]
    assert path == "/v1/chat/completions"
    assert body == {
        "model": "m",
        "messages": [{"role": "system", "content": "Be brief"}, {"role": "user", "content": "Hi"}],
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_completion_tokens": 9,
    }


def test_prompt_comes_from_standard_input(as_holder: Run, gateway: SmallGateway) -> None:
    """Without a prompt what is piped in is said, whole; the model may come from the environment."""
    gateway.reply = sse_reply(_chunk("ok", "stop"))
    assert as_holder("chat", stdin="first\nsecond\n", TOKENDANCE_MODEL="env-model").returncode == 0
    assert as_holder("chat", "m", stdin="piped").returncode == 0
    assert as_holder("chat", "-p", "said", TOKENDANCE_MODEL="env-model").returncode == 0
    said = [(body["model"], body["messages"][0]["content"]) for _, _, _, body in gateway.asked]
    assert said == [("env-model", "first\nsecond\n"), ("m", "piped"), ("env-model", "said")]


def test_json_is_one_object(as_holder: Run, gateway: SmallGateway) -> None:
    """Programs get text, usage, finish reason and request id at the end."""
    gateway.reply = sse_reply(_chunk("Hel"), _chunk("lo", "stop"), USAGE)
    told = as_holder("chat", "m", "Hi", "--format", "json")
    assert json.loads(told.stdout) == {
        "model": "m",
        "finish_reason": "stop",
        "usage": USAGE["usage"],
        "content": "Hello",
        "request_id": "req_1",
    }


def test_answer_cut_by_its_length_is_told(as_holder: Run, gateway: SmallGateway) -> None:
    """An answer that met its cap says so, and is no failure."""
    gateway.reply = sse_reply(_chunk("Hel", "length"))
    told = as_holder("chat", "m", "Hi")
    assert told.returncode == 0
    assert "--max-tokens" in told.stderr


@pytest.mark.parametrize("done", [True, False])
def test_error_in_mid_stream_follows_what_was_said(as_holder: Run, gateway: SmallGateway, done: bool) -> None:
    """What came stays; the error is told below it with its code and request id."""
    failed = {"error": {"message": "It broke.", "code": "provider_error", "type": "server_error"}}
    gateway.reply = sse_reply(_chunk("Hel"), failed, done=done)
    told = as_holder("chat", "m", "Hi")
    assert (told.returncode, told.stdout) == (1, "Hel\n")
    assert "provider_error: It broke." in told.stderr
    assert told.stderr.endswith("TOKENDANCE_REQUEST_ID=req_1\n")


def test_cut_stream_is_a_failure(as_holder: Run, gateway: SmallGateway) -> None:
    """A stream without its end is never taken for an answer."""
    gateway.reply = sse_reply(_chunk("Hel"), done=False)
    told = as_holder("chat", "m", "Hi")
    assert (told.returncode, told.stdout) == (1, "Hel\n")
    assert "cut off" in told.stderr


def test_refusal_before_the_first_word(as_holder: Run, gateway: SmallGateway) -> None:
    """An error status is told as the gateway says it."""
    body = {"error": {"message": "Wait.", "code": "rate_limit_exceeded", "type": "requests"}}
    gateway.reply = json_reply(body, 429)
    told = as_holder("chat", "m", "Hi")
    assert (told.returncode, told.stdout) == (1, "")
    assert "rate_limit_exceeded: Wait." in told.stderr


@pytest.mark.parametrize(
    ("arguments", "stdin"), [(["chat"], "Hi"), (["chat", "m"], " \n"), (["chat", "m", "a", "-p", "b"], "")]
)
def test_wrong_usage_sends_nothing(as_holder: Run, gateway: SmallGateway, arguments: list[str], stdin: str) -> None:
    """Without a model, without a prompt, or with two, nothing is asked of the gateway."""
    assert as_holder(*arguments, stdin=stdin).returncode == 2
    assert gateway.asked == []


def test_interrupt_ends_the_answer_cleanly(tmp_path: Path) -> None:
    """Ctrl-C in the middle of an answer ends the line, leaves the gateway, and is exit code 130."""
    left = threading.Event()
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nx-request-id: req_1\r\n\r\n"
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(head + b"data: " + json.dumps(_chunk("Hel")).encode() + b"\n\n")
                connection.settimeout(30)
                while connection.recv(65536):
                    pass
                left.set()

        thread = threading.Thread(target=answer)
        thread.start()
        environment = command_environment(
            TOKENDANCE_BASE_URL=f"http://127.0.0.1:{listener.getsockname()[1]}/v1", TOKENDANCE_API_KEY="tdk_x"
        )
        process = subprocess.Popen(
            [sys.executable, "-m", "tokendance_cli", "chat", "m", "Hi"],
            env=environment,
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            # A run in the background of a shell ignores Ctrl-C, and would hand that on.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 - no thread of ours forks
        )
        assert process.stdout is not None
        said = process.stdout.read(3)
        process.send_signal(signal.SIGINT)
        rest, told = process.communicate(timeout=30)
        thread.join(30)
    assert (said + rest, process.returncode) == (b"Hel\n", 130)
    assert told == b"TOKENDANCE_REQUEST_ID=req_1\n"
    assert left.is_set()
