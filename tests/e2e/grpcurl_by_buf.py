"""Stands in for grpcurl where there is none: the few of its options that our pages use, done with `buf curl`."""

from __future__ import annotations

import argparse
import subprocess
import sys


def main() -> int:
    """Runs the command of grpcurl; returns its exit code."""
    parser = argparse.ArgumentParser(prog="grpcurl")
    parser.add_argument("-plaintext", action="store_true", required=True)
    parser.add_argument("-H", action="append", default=[])
    parser.add_argument("-d", default="")
    parser.add_argument("-protoset", default="")
    parser.add_argument("address")
    parser.add_argument("words", nargs="+")
    asked = parser.parse_args()
    schema = ["--schema", asked.protoset] if asked.protoset else []
    url = f"http://{asked.address}"
    command = ["buf", "curl", "--http2-prior-knowledge", "--protocol", "grpc", *schema]
    if asked.words[0] in ("list", "describe"):
        wanted = "--list-services" if asked.words == ["list"] else "--list-methods"
        done = subprocess.run([*command, wanted, url], capture_output=True, text=True, check=False)
        about = asked.words[1] if len(asked.words) > 1 else ""
        print("\n".join(line.replace("/", ".") for line in done.stdout.splitlines() if about in line.replace("/", ".")))
        sys.stderr.write(done.stderr)
        return done.returncode
    for header in asked.H:
        command += ["--header", header]
    if asked.d:
        command += ["--data", asked.d]
    return subprocess.run([*command, f"{url}/{asked.words[0]}"], check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
