"""`tokendance serve` as real processes: first start, second start, roles, signals, and all that stops a start."""

import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.tools.tokendance_cli.conftest import Run, command_environment

ANY_PORT = ["--http", "127.0.0.1:0", "--internal", "127.0.0.1:0", "--grpc", "127.0.0.1:0"]


class Process:
    """A node and what it said on standard output until it was ready."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self._stderr = folder / "stderr"
        with self._stderr.open("a") as stderr:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tokendance_cli", "serve", *ANY_PORT, *arguments],
                env=command_environment(),
                cwd=folder,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
            )
        self.said = self._read_until_ready()

    def address(self, label: str) -> str:
        """Returns the address on the line of a label."""
        found = re.search(rf"^  {label} +(\S+)", self.said, re.MULTILINE)
        assert found, self.said
        return found[1]

    @property
    def secret(self) -> str | None:
        found = re.search(r"export TOKENDANCE_API_KEY=(tdk_\w+)", self.said)
        return found[1] if found else None

    def signal(self, number: int) -> None:
        self._process.send_signal(number)

    def end(self, timeout_s: float = 30) -> int:
        """Waits for the end and returns the exit code."""
        assert self._process.stdout is not None
        self._process.wait(timeout_s)
        self._process.stdout.close()
        return self._process.returncode

    def stop(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self.end()

    def _read_until_ready(self) -> str:
        """The line to try is the last; a role without REST ends with its data directory."""
        assert self._process.stdout is not None
        said = ""
        for line in self._process.stdout:
            said += line
            if line.startswith("  curl ") or (line.startswith("  data ") and "  REST" not in said):
                return said
        self.stop()
        raise AssertionError(said + self._stderr.read_text())


Serve = Callable[..., Process]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Starts nodes that are gone after the test."""
    started: list[Process] = []

    def start(*arguments: str) -> Process:
        started.append(Process(tmp_path, *arguments))
        return started[-1]

    yield start
    for process in started:
        process.stop()


def _status(url: str) -> int:
    try:
        with urllib.request.urlopen(url, timeout=10) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def test_first_start_shows_a_key_and_a_line_that_works(serve: Serve, tmp_path: Path) -> None:
    """The printed curl line, pasted into a shell, is answered; data and sockets are for nobody else."""
    node = serve("--data-dir", "d")
    line = node.said.splitlines()[-1].strip()
    assert node.secret is not None
    assert shutil.which("curl") is not None, "curl is needed"
    answer = json.loads(subprocess.run(["sh", "-c", f"{line} -s"], capture_output=True, check=True).stdout)
    assert "Hello" in answer["choices"][0]["message"]["content"]
    assert _status(f"{node.address('internal')}/readyz") == 200
    assert (tmp_path / "d").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "d" / "admin.sock").stat().st_mode & 0o777 == 0o600


def test_second_start_keeps_the_keys_and_shows_none(serve: Serve, run: Run, tmp_path: Path) -> None:
    """SIGTERM ends the node with exit code 0; the next start serves the same key and prints no secret."""
    first = serve("--data-dir", "d")
    secret = first.secret
    assert secret is not None
    first.signal(signal.SIGTERM)
    assert first.end() == 0
    assert not (tmp_path / "d" / "admin.sock").exists()
    second = serve("--data-dir", "d")
    assert second.secret is None
    assert "$TOKENDANCE_API_KEY" in second.said
    variables = {"TOKENDANCE_BASE_URL": second.address("REST"), "TOKENDANCE_API_KEY": secret}
    told = run("chat", "demo-echo", "over again", **variables)
    assert (told.returncode, "over again" in told.stdout) == (0, True)
    assert "demo-echo" in run("models", "list", **variables).stdout


def test_operator_governs_keys_without_setup(serve: Serve, run: Run) -> None:
    """Keys are made, listed and shown over the node's own socket, and a made key calls models."""
    node = serve("--data-dir", "d")
    first = json.loads(run("--data-dir", "d", "keys", "list", "--format", "json").stdout)[0]
    told = run(
        "--data-dir", "d", "keys", "create", "--purpose", "ci", "--owner", first["owner"], "--team", first["team"],
        "--rotated-by", first["owner"], "--rotation-days", "30", "--inherit-quota", "team", "--key-file", "k",
    )  # fmt: skip
    assert told.returncode == 0, told.stderr
    purposes = [key["purpose"] for key in json.loads(run("--data-dir", "d", "--format", "json", "keys", "list").stdout)]
    assert purposes[0] == "ci"
    asked = run("chat", "demo-echo", "Hi", "--key-file", "k", "--base-url", node.address("REST"))
    assert asked.returncode == 0, asked.stderr


def test_key_file_keeps_the_key_off_the_output(serve: Serve, tmp_path: Path) -> None:
    """With --key-file the secret is in a private file alone, and the next start leaves it there."""
    node = serve("--data-dir", "d", "--key-file", "k")
    key = (tmp_path / "k").read_text(encoding="utf-8").strip()
    assert key.startswith("tdk_")
    assert key not in node.said
    assert (tmp_path / "k").stat().st_mode & 0o777 == 0o600
    node.signal(signal.SIGINT)
    assert node.end() == 0
    serve("--data-dir", "d", "--key-file", "k")
    assert (tmp_path / "k").read_text(encoding="utf-8").strip() == key


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_server_and_facade_may_be_two_processes(serve: Serve, run: Run, loop: str) -> None:
    """The facade finds the server on the data directory by itself, and is ready only while it is there."""
    server = serve("--role", "server", "--data-dir", "d", "--loop", loop)
    facade = serve("--role", "facade", "--data-dir", "d", "--loop", loop)
    secret = server.secret
    assert secret is not None
    told = run("chat", "demo-echo", "Hi", TOKENDANCE_BASE_URL=facade.address("REST"), TOKENDANCE_API_KEY=secret)
    assert told.returncode == 0, told.stderr
    assert _status(f"{server.address('internal')}/readyz") == 200
    assert _status(f"{facade.address('internal')}/readyz") == 200
    server.signal(signal.SIGTERM)
    assert server.end() == 0
    assert _status(f"{facade.address('internal')}/readyz") == 503
    facade.signal(signal.SIGTERM)
    assert facade.end() == 0


def test_second_signal_cuts_what_runs(serve: Serve) -> None:
    """A request that never ends holds the node for its grace; a second signal does not wait for it."""
    node = serve("--data-dir", "d")
    host, port = node.address("REST").removeprefix("http://").removesuffix("/v1").split(":")
    with socket.create_connection((host, int(port))) as caller:
        caller.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer x\r\n"
            b"Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
        )
        # An answer on another connection shows that the node has read what came before it.
        assert _status(node.address("REST") + "/models") == 401
        node.signal(signal.SIGTERM)
        with pytest.raises(subprocess.TimeoutExpired):
            node.end(1)
        node.signal(signal.SIGTERM)
        assert node.end(8) == 0


def test_path_too_long_for_a_socket(serve: Serve, run: Run) -> None:
    """A deep data directory works like any other."""
    deep = "/".join(["d" * 60, "e" * 60])
    serve("--data-dir", deep)
    assert run("--data-dir", deep, "keys", "list").returncode == 0


def _lines(told: subprocess.CompletedProcess[str]) -> list[str]:
    return told.stderr.splitlines()


def test_second_process_on_the_same_data_is_refused(serve: Serve, run: Run) -> None:
    """One clear line names the directory, and the first process goes on."""
    first = serve("--data-dir", "d")
    told = run("serve", "--data-dir", "d", *ANY_PORT)
    assert (told.returncode, told.stdout, len(_lines(told))) == (1, "", 1)
    assert "Another process" in told.stderr
    assert _status(f"{first.address('internal')}/readyz") == 200


@pytest.mark.parametrize("flag", ["--http", "--internal", "--grpc"])
def test_taken_port_is_told(run: Run, flag: str) -> None:
    """The line names the address and the flag, and the first key is not lost for it."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        told = run("serve", "--data-dir", "d", *ANY_PORT, flag, address)
    assert told.returncode == 1
    (line,) = _lines(told)
    assert line.startswith("tokendance: ")
    assert f"cannot listen on {address}" in line
    assert f"{flag} HOST:PORT" in line
    assert "export TOKENDANCE_API_KEY=tdk_" in told.stdout


def test_directory_that_cannot_be_used_is_told(run: Run, tmp_path: Path) -> None:
    """A file in the directory's place, for one, is one line."""
    (tmp_path / "file").touch()
    for data_dir in ("file", "file/below"):
        told = run("serve", "--data-dir", data_dir, *ANY_PORT)
        assert (told.returncode, told.stdout, len(_lines(told))) == (1, "", 1)
        assert "--data-dir" in told.stderr


def test_wrong_settings_are_told_at_once(run: Run, tmp_path: Path) -> None:
    """Nothing is made where settings are wrong; every mistake has its line."""
    (tmp_path / "gateway.toml").write_text("[server]\ngrcp = 'x'\n", encoding="utf-8")
    told = run("serve", "--config", "gateway.toml", "--http", "nowhere", TOKENDANCE_GATEWAY_SERVER__LOG_LEVEL="loud")
    assert told.returncode == 2
    for place in ("gateway.toml: server.grcp", "--http: facade.http", "SERVER__LOG_LEVEL: server.log_level"):
        assert place in told.stderr
    assert not (tmp_path / ".tokendance").exists()


def test_provider_without_its_secret_is_told_without_a_key(run: Run, tmp_path: Path) -> None:
    """A reference that leads nowhere has its line, and makes no key."""
    (tmp_path / "gateway.toml").write_text(
        '[[providers]]\nname = "p"\nkind = "openai"\nbase_url = "http://127.0.0.1:9/v1"\n'
        'credential = "env:TOKENDANCE_PROVIDER_NONE"\n',
        encoding="utf-8",
    )
    told = run("serve", "--config", "gateway.toml", "--data-dir", "d", *ANY_PORT)
    assert (told.returncode, told.stdout, len(_lines(told))) == (2, "", 2)
    assert "TOKENDANCE_PROVIDER_NONE" in told.stderr


def test_reader_that_left_ends_the_node_cleanly(tmp_path: Path) -> None:
    """Where nobody can be told of the node, it does not run, and leaves no socket behind."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tokendance_cli", "serve", "--data-dir", "d", *ANY_PORT],
        env=command_environment(),
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert process.stdout is not None
    process.stdout.close()
    assert process.wait(30) == 1
    assert not (tmp_path / "d" / "admin.sock").exists()


def test_listening_to_others_is_warned_of(serve: Serve, tmp_path: Path) -> None:
    """An address that other machines reach is served, and told once on standard error."""
    serve("--data-dir", "d", "--http", "0.0.0.0:0")
    warnings = [line for line in (tmp_path / "stderr").read_text().splitlines() if line.startswith("Warning: ")]
    assert len(warnings) == 1
    assert "without TLS" in warnings[0]
