"""Checks that no .pth file of an environment runs code: such a file runs at every start of its Python."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path


def executable_lines(environment: Path) -> list[str]:
    """Lists the lines of .pth files below `environment` that Python would execute, as `file: line`."""
    return [
        f"{path}: {line}"
        for path in sorted(environment.rglob("*.pth"))
        for line in path.read_text().splitlines()
        if line.startswith(("import ", "import\t"))
    ]


def main(argv: Sequence[str] | None = None) -> int:
    """Prints what was found and returns 1 if there is any; an environment that is missing is an error too."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("environments", nargs="+", type=Path, metavar="ENVIRONMENT")
    options = parser.parse_args(argv)
    found = [line for environment in options.environments for line in executable_lines(environment)]
    found += [f"{path}: no such environment" for path in options.environments if not path.is_dir()]
    for line in found:
        print(line, file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
