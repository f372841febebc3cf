"""Examples of our pages run as the programs of strangers: their text as it is printed, in a folder of their own."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.e2e.nodes import ROOT

TIMEOUT_S = 50
GRPCURL_STAND_IN = Path(__file__).with_name("grpcurl_by_buf.py")


def run_shell(text: str, environment: Mapping[str, str], folder: Path) -> str:
    """Run lines of a POSIX shell from the repository's root, with grpcurl on the path; returns what they print."""
    tools = folder / "bin"
    tools.mkdir(exist_ok=True)
    grpcurl = shutil.which("grpcurl") or shutil.which("grpcurl", path=ROOT / ".tools" / "bin")
    link = tools / "grpcurl"
    if not link.exists():
        if grpcurl:
            link.symlink_to(grpcurl)
        else:
            link.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{GRPCURL_STAND_IN}" "$@"\n')
            link.chmod(0o755)
    path = f"{tools}:{ROOT / 'node_modules' / '.bin'}:{os.environ['PATH']}"
    return _run(["sh", "-euc", text], {**environment, "PATH": path}, ROOT)


def run_powershell(text: str, environment: Mapping[str, str], folder: Path) -> str:
    """Run PowerShell that sets variables, here-strings among them, and calls curl.exe, perhaps through a pipe."""
    told = dict(environment) | dict(re.findall(r'^\$env:(\w+) = "(.*)"$', text, re.MULTILINE))
    script = re.sub(r"`\n", "\\\n", text)
    here = dict(re.findall(r'^\$(\w+) = @"\n(.*?)\n"@$', script, re.MULTILINE | re.DOTALL))
    (line,) = re.findall(r"^(?:\$\w+ \| )?curl\.exe (?:.*\\\n)*.*$", script, re.MULTILINE)
    line = re.sub(r"\$env:(\w+)", r"${\1}", line).replace("curl.exe", "curl", 1)
    piped = re.match(r"\$(\w+) \| ", line)
    if piped:
        body = re.sub(r"\$env:(\w+)", r"${\1}", here[piped[1]])
        line = f"cat <<HERE | {line[piped.end() :]}\n{body}\nHERE"
    return run_shell(line, told, folder)


def run_python(text: str, environment: Mapping[str, str], folder: Path) -> str:
    """Run a Python program."""
    program = folder / "example.py"
    program.write_text(text)
    return _run([sys.executable, str(program)], environment, folder)


def run_javascript(text: str, environment: Mapping[str, str], folder: Path) -> str:
    """Run a JavaScript module with the packages of the repository."""
    return _run(["node", str(_module(text, "example.mjs", folder))], environment, folder)


def run_typescript(text: str, environment: Mapping[str, str], folder: Path) -> str:
    """Run a TypeScript module with the packages of the repository."""
    tsx = ROOT / "node_modules" / ".bin" / "tsx"
    return _run([str(tsx), str(_module(text, "example.mts", folder))], environment, folder)


def _module(text: str, name: str, folder: Path) -> Path:
    packages = folder / "node_modules"
    if not packages.exists():
        packages.symlink_to(ROOT / "node_modules")
    program = folder / name
    program.write_text(text)
    return program


def _run(command: list[str], environment: Mapping[str, str], folder: Path) -> str:
    done = subprocess.run(
        command, env=environment, cwd=folder, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )
    assert done.returncode == 0, f"{command[0]} ended with {done.returncode}: {done.stderr}{done.stdout}"
    return done.stdout
