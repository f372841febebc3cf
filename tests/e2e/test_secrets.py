"""The secrets that protect others, replaced while keys and credentials go on working."""

from __future__ import annotations

import json
import subprocess
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import pytest
from tests.e2e.nodes import TOKENDANCE, Process, await_file, clean_environment, free_ports, start, stopping, wait_ready
from tests.e2e.operator_cli import documents, tokendance
from tests.e2e.test_postgresql import Nodes
from tests.e2e.upstream import Upstream, until
from tests.servers import PostgresServer

CREDENTIAL = "sk-sealed-credential-canary"
OLD, NEW = bytes(range(32)).hex(), bytes(range(64, 96)).hex()


def chat(origin: str, key: str, model: str = "sim") -> int:
    """Return the status of a model call."""
    body = json.dumps({"model": model, "messages": [{"role": "user", "content": "Hi"}]}).encode()
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    request = urllib.request.Request(f"{origin}/v1/chat/completions", data=body, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


@contextmanager
def node_on(folder: Path) -> Iterator[str]:
    """Run a node on a data directory, and give the URL of its REST listener."""
    http, internal = free_ports(2)
    arguments = ["serve", "--data-dir", "data", "--grpc", "", "--key-file", "key"]
    arguments += ["--http", f"127.0.0.1:{http}", "--internal", f"127.0.0.1:{internal}"]
    process = start(f"node-{http}", arguments, folder, clean_environment())
    with stopping([process]):
        wait_ready(process, f"http://127.0.0.1:{internal}")
        yield f"http://127.0.0.1:{http}"
    assert CREDENTIAL not in process.text


def command(folder: Path, *words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """Run a command on the node of a folder."""
    return subprocess.run(
        [TOKENDANCE, "--data-dir", str(folder / "data"), *words],
        input=stdin,
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def status(folder: Path) -> dict[str, tuple[str, bool, int]]:
    """Return what `secrets status` tells of each id: its kind, whether it is in force, and its uses."""
    rows = documents(folder / "data", "secrets", "status")
    return {row["id"]: (row["kind"], row["in_force"], row["uses"]) for row in rows}


def with_credential(folder: Path, upstream: Upstream) -> None:
    """Give a running node a provider with a sealed credential, and a model on it."""
    declared = {
        "providers": [{"name": "acme", "kind": "openai", "base_url": upstream.base_url}],
        "models": [{"name": "sim", "routes": [{"provider": "acme", "upstream_model": "sim"}]}],
    }
    file = folder / "catalogue.yaml"
    file.write_text(json.dumps(declared))
    assert command(folder, "apply", "-f", str(file), "--yes").returncode == 0
    done = command(folder, "providers", "credential", "set", "acme", stdin=f"{CREDENTIAL}\n")
    assert done.returncode == 0, done.stderr
    assert CREDENTIAL not in done.stdout + done.stderr


# Nodes start and commands run one after the other, some twenty of them.
@pytest.mark.timeout(180)
def test_a_node_of_its_own_takes_new_secrets(upstream: Upstream, tmp_path: Path) -> None:
    """Old ones are kept until nothing needs them; the credential reaches its provider and stands nowhere in clear."""
    upstream.forget()
    with node_on(tmp_path) as origin:
        await_file(tmp_path / "key")
        key = (tmp_path / "key").read_text().strip()
        with_credential(tmp_path, upstream)
        assert chat(origin, key) == 200
        shown = command(tmp_path, "providers", "show", "acme")
        assert "sealed" in shown.stdout
        before = status(tmp_path)
        for kind in ("pepper", "ring"):
            assert command(tmp_path, "secrets", "rotate", kind).returncode == 0
    assert sorted(value for value in before.values()) == [("pepper", True, 1), ("ring", True, 1)]
    (old_pepper,) = [one for one, (kind, *_) in before.items() if kind == "pepper"]
    (old_ring,) = [one for one, (kind, *_) in before.items() if kind == "ring"]
    with node_on(tmp_path) as origin:
        assert status(tmp_path)[old_ring] == ("ring", False, 0)
        assert status(tmp_path)[old_pepper] == ("pepper", False, 1)
        assert "Nothing to remove" in command(tmp_path, "secrets", "prune", "pepper").stdout
        assert chat(origin, key) == 200
    assert status(tmp_path)[old_pepper] == ("pepper", False, 0)
    for kind in ("pepper", "ring"):
        assert "Removed" in command(tmp_path, "secrets", "prune", kind).stdout
    with node_on(tmp_path) as origin:
        assert chat(origin, key) == 200
    assert not {old_pepper, old_ring} & status(tmp_path).keys()
    assert {record["headers"]["authorization"] for record in upstream.log("sim")} == {f"Bearer {CREDENTIAL}"}
    for file in (tmp_path / "data").rglob("*"):
        assert file.is_dir() or CREDENTIAL.encode() not in file.read_bytes(), file


class Load:
    """Calls a list of nodes without a pause, and keeps what they answered."""

    def __init__(self, origins: list[str], key: str) -> None:
        self._origins = origins
        self._key = key
        self._over = threading.Event()
        self.answers: list[int] = []
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(20)

    def _run(self) -> None:
        while not self._over.is_set():
            for origin in list(self._origins):
                self.answers.append(chat(origin, self._key))


def secrets_of(peppers: list[str], ring: list[str]) -> dict[str, str]:
    """Return the settings of a node with these secrets, in hexadecimal digits, the one in force first."""
    settings: dict[str, Any] = {
        "TOKENDANCE_GATEWAY_PEPPER": peppers[0],
        "TOKENDANCE_GATEWAY_SERVER__PEPPER": "env:TOKENDANCE_GATEWAY_PEPPER",
    }
    for name, setting, values in (("PEPPER_OLD", "OLD_PEPPERS", peppers[1:]), ("RING", "KEY_RING", ring)):
        variables = {f"TOKENDANCE_GATEWAY_{name}_{place}": value for place, value in enumerate(values)}
        settings |= variables
        settings[f"TOKENDANCE_GATEWAY_SERVER__{setting}"] = json.dumps([f"env:{one}" for one in variables])
    return settings


@pytest.mark.timeout(180)
def test_two_nodes_take_new_secrets_without_a_cut(
    postgres_server: PostgresServer, redis_server: str, upstream: Upstream, tmp_path: Path
) -> None:
    """First each learns the new ones, then each puts them in force, while callers notice nothing of it."""
    processes: list[Process] = []
    with postgres_server.database() as url, stopping(processes):
        nodes = Nodes(tmp_path, url, processes)
        nodes.environment |= {
            "TOKENDANCE_GATEWAY_SERVER__REDIS_URL": redis_server,
            "TOKENDANCE_GATEWAY_SERVER__EGRESS__ALLOW_LOOPBACK": "true",
        }
        nodes.environment |= secrets_of([OLD], [OLD])
        assert tokendance("migrate", "apply", **nodes.environment).returncode == 0
        running = {name: nodes.serve(name) for name in ("a", "b")}
        await_file(tmp_path / "key-a")
        (tmp_path / "data").symlink_to(tmp_path / "data-a")
        with_credential(tmp_path, upstream)
        origins = [origin for _, origin in running.values()]
        with Load(origins, (tmp_path / "key-a").read_text().strip()) as load:
            for peppers, ring in (([OLD, NEW], [OLD, NEW]), ([NEW, OLD], [NEW, OLD]), ([NEW, OLD], [NEW])):
                for name in ("a", "b"):
                    process, origin = running[name]
                    origins.remove(origin)
                    answered = len(load.answers)
                    # The call that may still be on its way there, and one behind it.
                    until(lambda answered=answered: len(load.answers) > answered + 1)  # type: ignore[misc]
                    assert process.stop() == 0
                    running[name] = nodes.serve(name, **secrets_of(peppers, ring))
                    origins.append(running[name][1])
        assert len(load.answers) > 20
        assert set(load.answers) == {200}
        process, _ = running["a"]
        assert process.stop() == 0
        # What was called meanwhile was digested anew, so the old pepper can go.
        _, origin = nodes.serve("a", **secrets_of([NEW], [NEW]))
        assert chat(origin, (tmp_path / "key-a").read_text().strip()) == 200
