"""Renews requirements/*.txt from the pyproject files: every package pinned, hashed, and at least a week old.

Runs the resolver in an environment that is thrown away afterwards. The files name no registry, so that they
hold wherever a developer gets packages from. Universal: one file serves every platform and Python version.
"""

import argparse
import datetime
import os
import subprocess
import sys
import tempfile
import tomllib
import venv
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
RESOLVER = "uv==0.13.9"
# A package that was taken over is usually found out within days; let others be the ones who find out.
COOLDOWN = datetime.timedelta(days=7)
OURS = "tokendance=="


def declared(root: Path) -> dict[str, list[str]]:
    """Maps each lock's name to the requirements it must satisfy, our own distributions left out."""
    gateway = tomllib.loads((root / "pyproject.toml").read_text())
    client = tomllib.loads((root / "clients/python/pyproject.toml").read_text())
    groups = gateway["dependency-groups"]
    runtime = gateway["project"]["dependencies"] + client["project"]["dependencies"]
    for extra in gateway["project"].get("optional-dependencies", {}).values():
        runtime += extra
    return {
        "dev": [requirement for requirement in runtime + groups["dev"] if not requirement.startswith(OURS)],
        "gen": groups["gen"],
    }


def resolve(uv: Path, requirements: Sequence[str], lock: Path, before: datetime.datetime) -> None:
    """Writes `lock` anew. Pins that still satisfy `requirements` are kept unless `lock` was removed first."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "UV_"))}
    subprocess.run(
        [
            uv,
            "pip",
            "compile",
            "--quiet",
            "--universal",
            "--python-version=3.11",
            "--generate-hashes",
            "--only-binary=:all:",
            "--no-emit-index-url",
            "--no-emit-find-links",
            "--no-annotate",
            "--no-header",
            f"--exclude-newer={before.isoformat()}",
            f"--output-file={lock}",
            "-",
        ],
        input="\n".join(requirements),
        text=True,
        env=environment,
        check=True,
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Renews both locks; with --upgrade every pin moves to the newest release that is old enough."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--upgrade", action="store_true", help="move every pin, not only those that must move")
    options = parser.parse_args(argv)
    before = datetime.datetime.now(datetime.UTC).replace(microsecond=0) - COOLDOWN
    with tempfile.TemporaryDirectory() as scratch:
        venv.create(scratch, with_pip=True)
        programs = Path(scratch) / "bin"
        subprocess.run(
            [programs / "python", "-m", "pip", "install", "--quiet", "--only-binary", ":all:", RESOLVER],
            check=True,
        )
        for name, requirements in declared(ROOT).items():
            lock = ROOT / "requirements" / f"{name}.txt"
            if options.upgrade:
                lock.unlink(missing_ok=True)
            resolve(programs / "uv", requirements, lock, before)
    return 0


if __name__ == "__main__":
    sys.exit(main())
