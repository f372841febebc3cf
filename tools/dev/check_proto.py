"""Checks the API's descriptors: style and comments of every element, and nothing breaking since the release.

Reads proto/api.binpb, which `make gen` writes, and proto/released.binpb, which only a release writes.
"""

import argparse
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from google.protobuf.descriptor_pb2 import FileDescriptorSet

from tokendance.gateway.v1 import errors_pb2

ROOT = Path(__file__).resolve().parents[2]
ERRORS_FILE = "tokendance/gateway/v1/errors.proto"


def buf(*arguments: str) -> list[str]:
    """Runs buf from the repository's Node tools; returns what it complains about, a line each.

    Raises RuntimeError if buf itself could not do its work: only status 100 means complaints.
    """
    done = subprocess.run(
        [str(ROOT / "node_modules" / ".bin" / "buf"), *arguments], capture_output=True, text=True, check=False
    )
    if done.returncode not in (0, 100):
        raise RuntimeError(done.stderr.strip() or f"buf ended with status {done.returncode}")
    return done.stdout.splitlines()


def lint(descriptors: Path) -> list[str]:
    """Lists every element of `descriptors` that breaks a lint rule of buf.yaml, comments included."""
    return buf("lint", str(descriptors), "--config", str(ROOT / "buf.yaml"))


def breaking(descriptors: Path, released: Path) -> list[str]:
    """Lists every change from `released` that a client on the wire or in JSON would notice."""
    complaints = buf("breaking", str(descriptors), "--against", str(released), "--config", str(ROOT / "buf.yaml"))
    return complaints + changed_codes(error_codes(descriptors), error_codes(released))


def error_codes(descriptors: Path) -> dict[str, str]:
    """Maps each ErrorReason to its stable code: an option, and buf compares no values of options."""
    files = FileDescriptorSet.FromString(descriptors.read_bytes()).file
    return {
        value.name: value.options.Extensions[errors_pb2.error].code
        for file in files
        if file.name == ERRORS_FILE
        for enum in file.enum_type
        if enum.name == "ErrorReason"
        for value in enum.value
    }


def changed_codes(now: Mapping[str, str], then: Mapping[str, str]) -> list[str]:
    """Lists the reasons whose code is another one than it was; a removed reason is buf's complaint."""
    return [
        f'{ERRORS_FILE}: {name} had the stable code "{code}" and now has "{now[name]}"; codes never change.'
        for name, code in then.items()
        if name in now and now[name] != code
    ]


def main(argv: Sequence[str] | None = None) -> int:
    """Prints every complaint and returns 1 if there is any."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--descriptors", type=Path, default=ROOT / "proto" / "api.binpb")
    parser.add_argument("--released", type=Path, default=ROOT / "proto" / "released.binpb")
    options = parser.parse_args(argv)
    complaints = lint(options.descriptors)
    if options.released.exists():
        complaints += breaking(options.descriptors, options.released)
    else:
        print("Nothing has been released, so nothing can break: the first tag writes proto/released.binpb.")
    for line in complaints:
        print(line, file=sys.stderr)
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
