"""The command as a whole: its help, its exit codes, and how little its light commands load."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.tools.tokendance_cli.conftest import Run, SmallGateway, command_environment, json_reply, sse_reply

HEAVY = {"tokendance_server", "tokendance_facade", "grpc", "sqlalchemy", "aiohttp", "uvloop", "structlog", "redis"}


def test_help_names_the_commands_and_the_exit_codes(run: Run) -> None:
    """Whoever asks for help finds what there is, and what a script can rely on."""
    told = run("--help")
    assert told.returncode == 0
    for word in ("serve", "keys", "models", "chat", "doctor", "errors", "--data-dir", "--format", "Exit codes"):
        assert word in told.stdout


@pytest.mark.parametrize(
    "arguments", [["serve"], ["keys", "create"], ["keys", "list"], ["models", "show"], ["chat"], ["doctor"], ["errors"]]
)
def test_every_command_has_help(run: Run, arguments: list[str]) -> None:
    """Help never needs a node, a key or a gateway."""
    assert run(*arguments, "--help").returncode == 0


def test_version_is_printed(run: Run) -> None:
    """The version stands alone on a line."""
    told = run("--version")
    assert (told.returncode, told.stdout.split()[0]) == (0, "tokendance")


@pytest.mark.parametrize("arguments", [["nothing"], ["keys", "create"], ["errors", "--format", "xml"]])
def test_wrong_usage_is_exit_code_2(run: Run, arguments: list[str]) -> None:
    """Usage that cannot be understood is told on standard error, without a traceback."""
    told = run(*arguments)
    assert told.returncode == 2
    assert told.stdout == ""
    assert "Traceback" not in told.stderr


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["errors"], ["models", "list"], ["chat", "m", "Hello"], ["serve", "--help"], ["doctor"]],
    ids=" ".join,
)
def test_light_commands_load_nothing_heavy(gateway: SmallGateway, tmp_path: Path, arguments: list[str]) -> None:
    """What a key's holder runs imports neither gRPC nor anything of server, facade or stores."""
    gateway.reply = sse_reply({"choices": []}) if "chat" in arguments else json_reply({"data": []})
    code = (
        "import json, sys\n"
        "from tokendance_cli.__main__ import main\n"
        f"sys.argv = ['tokendance', *{arguments!r}]\n"
        "try:\n"
        "    main()\n"
        "except SystemExit as end:\n"
        "    assert not end.code or 'doctor' in sys.argv, end.code\n"
        "print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})), file=sys.stderr)\n"
    )
    environment = command_environment(TOKENDANCE_BASE_URL=gateway.url, TOKENDANCE_API_KEY="tdk_made-up")
    told = subprocess.run(
        [sys.executable, "-c", code], env=environment, cwd=tmp_path, capture_output=True, text=True, check=True
    )
    loaded = set(json.loads(told.stderr.splitlines()[-1]))
    assert "tokendance_cli" in loaded
    assert loaded & HEAVY == set()


def test_reader_that_has_seen_enough_is_no_failure_to_report(tmp_path: Path) -> None:
    """A closed pipe, as behind `head -1`, ends the command without complaint."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tokendance_cli", "errors", "--format", "json"],
        env=command_environment(),
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == ""
    process.stderr.close()
    process.wait(30)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish", "powershell"])
def test_completion_is_offered_for_each_shell(run: Run, shell: str) -> None:
    """Whichever shell runs the command, the script is that of the shell that was named."""
    told = run("completion", shell)
    assert told.returncode == 0
    assert "_TOKENDANCE_COMPLETE" in told.stdout


def test_bash_completes_commands(run: Run) -> None:
    """The script that was printed asks the command itself, which knows its commands."""
    script = run("completion", "bash").stdout
    asking = "COMP_WORDS=(tokendance doc); COMP_CWORD=1; _tokendance_completion tokendance; echo ${COMPREPLY[@]}"
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    command = ["bash", "-c", f"{script}\n{asking}"]
    told = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, "PATH": path})
    assert told.stdout.split() == ["doctor"]


def test_a_server_loads_nothing_that_only_some_nodes_need() -> None:
    """Whoever has no Redis, and whose calls come through the facade, neither waits for those parts nor keeps them."""
    late = ("alembic", "protovalidate", "redis")
    code = f"import sys, tokendance_server.app; print([one for one in {late} if one in sys.modules])"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "[]"
