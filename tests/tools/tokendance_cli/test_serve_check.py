"""`tokendance serve --check` as a command: its table, its exit codes, and that it changes nothing."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.tools.tokendance_cli.conftest import Run
from tests.tools.tokendance_cli.test_serve import ANY_PORT, Process


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Process]:
    """A node that runs on the data directory `d`."""
    process = Process(tmp_path, "--data-dir", "d", "--key-file", "k")
    yield process
    process.stop()


def _tree(folder: Path) -> dict[str, tuple[int, int, int, bytes]]:
    """Everything below a folder: mode, time of change, inode and content."""
    found = {}
    for path in sorted([folder, *folder.rglob("*")]):
        status = path.lstat()
        content = path.read_bytes() if path.is_file() else b""
        # The index of SQLite's log is made anew by whoever reads first after a node was killed; the log itself is not.
        changed = 0 if path.name.startswith("gateway.db-") else status.st_ctime_ns
        content = b"" if path.name == "gateway.db-shm" else content
        found[str(path.relative_to(folder))] = (status.st_mode, changed, status.st_ino, content)
    return found


def test_nothing_is_made_where_nothing_is(run: Run, tmp_path: Path) -> None:
    """A first check before the first start; the exit code says that it would start."""
    before = _tree(tmp_path)
    told = run("serve", "--check", "--data-dir", "d", *ANY_PORT)
    assert (told.returncode, _tree(tmp_path)) == (0, before)
    assert "made at the first start" in told.stdout
    assert told.stderr.splitlines()[-1].startswith("The node would start")


def test_nothing_is_changed_where_a_node_was(run: Run, node: Process, tmp_path: Path) -> None:
    """Not a byte, a mode or a time of its data directory, and the node was killed."""
    node.stop()
    before = _tree(tmp_path / "d")
    told = run("serve", "--check", "--data-dir", "d", *ANY_PORT)
    assert (told.returncode, _tree(tmp_path / "d")) == (0, before)


def test_a_running_node_is_left_alone_and_told(run: Run, node: Process, tmp_path: Path) -> None:
    """Its ports are its own: a new configuration can be checked while it runs."""
    http = node.address("REST").removeprefix("http://").removesuffix("/v1")
    told = run("serve", "--check", "--data-dir", "d", *ANY_PORT, "--http", http, "--format", "json")
    rows = {row["part"]: row for row in json.loads(told.stdout)}
    assert told.returncode == 0, told.stdout
    assert "a node runs on it" in rows["data"]["told"]
    assert (rows["REST"]["state"], "perhaps by the node that runs" in rows["REST"]["told"]) == ("limited", True)
    key = (tmp_path / "k").read_text(encoding="utf-8").strip()
    told = run("chat", "demo-echo", "Hi", TOKENDANCE_BASE_URL=node.address("REST"), TOKENDANCE_API_KEY=key)
    assert told.returncode == 0


def test_every_problem_is_told_at_once_with_exit_code_2(run: Run, tmp_path: Path) -> None:
    """Secrets that were found are not shown."""
    (tmp_path / "gateway.toml").write_text(
        '[server]\ndatabase_url = "postgresql://u:secret-password@127.0.0.1:1/gw"\n'
        '[[providers]]\nname = "p"\nkind = "openai"\nbase_url = "http://169.254.169.254/v1"\n'
        '[[providers]]\nname = "q"\nkind = "openai"\nbase_url = "https://a.example/v1"\n'
        'credential = "env:TOKENDANCE_PROVIDER_Q"\n'
        '[[models]]\nname = "m"\nroutes = [{ provider = "r", upstream_model = "u" }]\n',
        encoding="utf-8",
    )
    told = run(
        "serve", "--check", "--config", "gateway.toml", "--data-dir", "d", *ANY_PORT, "--format", "json",
        "--key-file", "none/k", TOKENDANCE_PROVIDER_Q="secret-of-q",
    )  # fmt: skip
    assert told.returncode == 2
    problems = {row["part"] for row in json.loads(told.stdout) if row["state"] == "problem"}
    assert problems == {"database", "provider p", "model m", "first key in none/k"}
    assert "4 of" in told.stderr
    assert "secret-" not in told.stdout + told.stderr
    assert not (tmp_path / "d").exists()


def test_settings_that_cannot_be_read_are_exit_code_2(run: Run, tmp_path: Path) -> None:
    """As with a start: every mistake has its line."""
    (tmp_path / "gateway.toml").write_text("[server]\ngrcp = 'x'\n", encoding="utf-8")
    told = run("serve", "--check", "--config", "gateway.toml", "--http", "nowhere")
    assert told.returncode == 2
    assert "server.grcp" in told.stderr
    assert "--http: facade.http" in told.stderr
