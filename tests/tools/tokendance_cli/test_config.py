"""`tokendance config`: printed for redirection, written after asking, and never over what is there without a copy."""

from __future__ import annotations

import json
from pathlib import Path

from tests.tools.tokendance_cli.conftest import Run

GATEWAY = ("--base-url", "http://127.0.0.1:9/v1", "--model", "m")


def test_text_alone_goes_to_standard_output(run: Run) -> None:
    """What to do with it goes to standard error, and so does that the key is not there."""
    done = run("config", "codex", *GATEWAY)
    assert done.returncode == 0, done.stderr
    assert 'base_url = "http://127.0.0.1:9/v1"' in done.stdout
    assert done.stdout.startswith("# Codex")
    assert "~/.codex/tokendance.config.toml" in done.stderr
    assert "codex exec --profile tokendance" in done.stderr
    assert "TOKENDANCE_API_KEY is not set here" in done.stderr


def test_programs_get_json(run: Run) -> None:
    """With every file, and what to type."""
    done = run("config", "ci", *GATEWAY, "--format", "json")
    told = json.loads(done.stdout)
    assert [one["path"] for one in told["files"]] == [".github/workflows/ask-a-model.yml", ".gitlab-ci.yml"]


def test_wrong_words_are_refused(run: Run) -> None:
    """An unknown client with the names of those there are; a model that is none; a file without a model."""
    unknown = run("config", "emacs", *GATEWAY)
    assert (unknown.returncode, "opencode" in unknown.stderr) == (2, True)
    assert run("config", "codex", "--base-url", "http://127.0.0.1:9/v1", "--model", 'a"b').returncode == 2
    nameless = run("config", "python", "--base-url", "http://127.0.0.1:9/v1", "--write", "--yes")
    assert (nameless.returncode, "--model" in nameless.stderr) == (2, True)


def test_file_is_written_after_asking(run: Run, tmp_path: Path) -> None:
    """Where nobody can answer nothing is written; a second time there is nothing to do."""
    home = {"HOME": str(tmp_path / "home"), "CODEX_HOME": ""}
    refused = run("config", "codex", *GATEWAY, "--write", **home)
    assert refused.returncode == 2
    file = tmp_path / "home" / ".codex" / "tokendance.config.toml"
    assert not file.exists()
    done = run("config", "codex", *GATEWAY, "--write", "--yes", **home)
    assert done.returncode == 0, done.stderr
    assert file.read_text() == run("config", "codex", *GATEWAY).stdout
    assert "is as it should be" in run("config", "codex", *GATEWAY, "--write", **home).stderr


def test_own_place_of_codex_is_honoured(run: Run, tmp_path: Path) -> None:
    """The file goes where Codex looks."""
    done = run("config", "codex", *GATEWAY, "--write", "--yes", CODEX_HOME=str(tmp_path / "mine"))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "mine" / "tokendance.config.toml").is_file()


def test_what_was_there_stays_beside_it(run: Run, tmp_path: Path) -> None:
    """What changes is shown first; a copy of an earlier time is not lost either."""
    mine = tmp_path / "hello_tokendance.py"
    mine.write_text("mine\n")
    done = run("config", "python", *GATEWAY, "--write", "--yes", "--project", str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert "-mine" in done.stderr
    kept = tmp_path / "hello_tokendance.py.before-tokendance"
    assert kept.read_text() == "mine\n"
    mine.write_text("mine again\n")
    refused = run("config", "python", *GATEWAY, "--write", "--yes", "--project", str(tmp_path))
    assert refused.returncode == 1
    assert (mine.read_text(), kept.read_text()) == ("mine again\n", "mine\n")
