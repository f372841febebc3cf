"""Finds the Chromium that the browser tests drive, and installs the system's package where there is none."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

VARIABLE = "TOKENDANCE_TEST_CHROMIUM"
NAMES = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")
PACKAGE = "chromium"


def find() -> str | None:
    """Return the path of a Chromium: the one the variable names, else the first on PATH; None where there is none."""
    named = os.environ.get(VARIABLE)
    if named:
        return shutil.which(named)
    return next((path for name in NAMES if (path := shutil.which(name))), None)


def install() -> None:
    """Install the distribution's package, as root or by sudo without a password.

    Raises OSError or subprocess.CalledProcessError where that is not possible.
    """
    as_root = [] if os.geteuid() == 0 else ["sudo", "-n"]
    quiet = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    for arguments in (["update", "-q"], ["install", "-q", "-y", "--no-install-recommends", PACKAGE]):
        subprocess.run([*as_root, "apt-get", *arguments], check=True, stdin=subprocess.DEVNULL, env=quiet)


def main() -> int:
    """Print the browser's path, after installing it if need be; return 1 where there is none to be had."""
    if find() is None and not os.environ.get(VARIABLE):
        print(f"No Chromium on PATH; installing the package {PACKAGE}", file=sys.stderr, flush=True)
        try:
            install()
        except (OSError, subprocess.CalledProcessError) as exc:
            print(f"It could not be installed: {exc}", file=sys.stderr)
    path = find()
    if path is None:
        print(f"The browser tests need Chromium: install it, or name its program in {VARIABLE}.", file=sys.stderr)
        return 1
    print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
