"""Real clients with the very configurations that the command writes and the pages show, against a running node."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import yaml
from tests.e2e import claude_code
from tests.e2e.nodes import ROOT, Node, clean_environment, running
from tests.e2e.operator_cli import tokendance
from tests.e2e.programs import run_javascript, run_python, run_shell
from tests.e2e.upstream import Upstream

CODEX = ROOT / "node_modules" / ".bin" / "codex"
OPENCODE = ROOT / "node_modules" / "opencode-linux-x64" / "bin" / "opencode"
MODEL = "demo-echo"
AGENT = "sim-agent"


@pytest.fixture(scope="module")
def house(upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A node of these tests alone."""
    with running("one", tmp_path_factory.mktemp("clients"), upstream.base_url, ["sim", AGENT]) as node:
        yield node


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home directory with nothing in it."""
    folder = tmp_path / "home"
    folder.mkdir()
    return folder


def person(node: Node, home: Path) -> dict[str, str]:
    """The environment of somebody who has a key and nothing else."""
    return clean_environment(HOME=str(home), XDG_CONFIG_HOME=str(home / ".config"), TOKENDANCE_API_KEY=node.api_key)


def write(client: str, node: Node, home: Path, model: str = MODEL) -> None:
    """Let the command write a client's files."""
    gateway = ("--base-url", node.base_url, "--model", model)
    done = tokendance("config", client, *gateway, "--write", "--yes", "--project", str(home), HOME=str(home))
    assert done.returncode == 0, done.stderr


def run(command: list[str], environment: Mapping[str, str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a client with nobody at its input."""
    return subprocess.run(
        command,
        env=environment,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )


def test_codex_answers(house: Node, home: Path) -> None:
    """Over the Responses API, by its profile; the key is in no file."""
    write("codex", house, home)
    words = ["exec", "--profile", "tokendance", "--skip-git-repo-check", "-s", "read-only", "--json", "Say hello"]
    done = run([str(CODEX), *words], person(house, home), home)
    assert done.returncode == 0, done.stdout + done.stderr
    items = [json.loads(line) for line in done.stdout.splitlines()]
    said = [one["item"]["text"] for one in items if one.get("item", {}).get("type") == "agent_message"]
    assert len(said) == 1
    assert "Say hello" in said[0]
    assert not [path for path in home.rglob("*") if path.is_file() and house.api_key.encode() in path.read_bytes()]


def test_claude_code_answers(house: Node, home: Path) -> None:
    """Over the Messages API, with the variables that its file sets; the key is in no file."""
    write("claude-code", house, home)
    file = home / ".config" / "tokendance" / "claude-code.sh"
    line = f". '{file}' && exec '{claude_code.program()}' -p 'Say hello' --output-format json"
    environment = person(house, home) | {"CLAUDE_CONFIG_DIR": str(home / "claude"), "DISABLE_AUTOUPDATER": "1"}
    done = run(["sh", "-c", line], environment, home)
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(done.stdout)
    assert told["is_error"] is False
    assert "Say hello" in told["result"]
    assert not [path for path in home.rglob("*") if path.is_file() and house.api_key.encode() in path.read_bytes()]


@pytest.mark.long
def test_opencode_writes_a_file(house: Node, home: Path) -> None:
    """Over chat completions, by its own configuration file: a tool is called, and its result is read."""
    write("opencode", house, home, AGENT)
    project = home / "project"
    project.mkdir()
    # opencode takes its own word for where it is.
    environment = person(house, home) | {"OPENCODE_DISABLE_MODELS_FETCH": "1", "PWD": str(project)}
    # Without a space: opencode puts words that hold one between quotes.
    call = json.dumps({"filePath": str(project / "hello.txt"), "content": "hi"}, separators=(",", ":"))
    done = run([str(OPENCODE), "run", "CALL", "write", call], environment, project)
    assert done.returncode == 0, done.stderr
    assert (project / "hello.txt").is_file(), done.stdout + done.stderr
    assert (project / "hello.txt").read_text() == "hi"


@pytest.mark.parametrize(
    ("client", "file"),
    [("python", "hello_tokendance.py"), ("langchain", "hello_langchain.py"), ("node", "hello-tokendance.mjs")],
)
def test_programs_answer(house: Node, home: Path, tmp_path: Path, client: str, file: str) -> None:
    """As they are written; the address and the model in them are those of this gateway."""
    write(client, house, home)
    text = (home / file).read_text()
    program = run_javascript if client == "node" else run_python
    assert "Say hello in five words." in program(text, person(house, home), tmp_path)


def test_jobs_of_pipelines_get_an_answer(house: Node, home: Path, tmp_path: Path) -> None:
    """The steps of both, with the variables that each pipeline sets."""
    write("ci", house, home)
    github = yaml.safe_load((home / ".github" / "workflows" / "ask-a-model.yml").read_text())["jobs"]["ask"]
    gitlab = yaml.safe_load((home / ".gitlab-ci.yml").read_text())["ask-a-model"]
    (step,) = github["steps"]
    assert step["env"] == {"TOKENDANCE_API_KEY": "${{ secrets.TOKENDANCE_API_KEY }}"}
    for variables, script in ((github["env"], step["run"]), (gitlab["variables"], "\n".join(gitlab["script"]))):
        run_shell(f"cd '{tmp_path}'\n{script}", person(house, home) | variables, tmp_path)
        answer = json.loads((tmp_path / "answer.json").read_text())
        assert "Say hello." in answer["choices"][0]["message"]["content"]


@pytest.mark.parametrize(
    ("client", "file", "variables"),
    [
        ("aider", "aider.sh", ("OPENAI_API_BASE", "OPENAI_API_KEY")),
        ("tokendancecode", "tokendancecode.sh", ("OPENAI_BASE_URL", "OPENAI_API_KEY")),
        ("agenthub", "agenthub.sh", ("TOKENDANCE_BASE_URL", "TOKENDANCE_API_KEY")),
    ],
)
def test_variables_lead_to_the_gateway(
    house: Node, home: Path, client: str, file: str, variables: tuple[str, str]
) -> None:
    """What a shell has after reading the file calls the gateway; without a key it says so and stops."""
    write(client, house, home)
    read = f". '{home / '.config' / 'tokendance' / file}'"
    address, key = variables
    line = f'{read}\ncurl -sS --fail "${address}/models" -H "Authorization: Bearer ${key}"'
    assert MODEL in run_shell(line, person(house, home), home)
    without = clean_environment(HOME=str(home))
    done = run(["sh", "-c", read], without, home)
    assert done.returncode != 0
    assert "set it from your secret store" in done.stderr
