"""Run one target under a coverage-guided fuzzer: `run_fuzzer.py TARGET [options of libFuzzer]`."""

from __future__ import annotations

import sys
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

with atheris.instrument_imports(include=["tokendance_facade", "tokendance_server", "tokendance"]):
    from tests.fuzz.targets import TARGETS


def main() -> None:
    """Never returns: the fuzzer ends the process."""
    name, *options = sys.argv[1:]
    atheris.Setup([sys.argv[0], *options], TARGETS[name])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
