"""The simulated upstream in a process of its own, and what it remembers of the requests that reached it."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tests.e2e.nodes import ROOT, clean_environment

SETTLE_S = 5.0


class Upstream:
    """The running simulator."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.origin = f"http://127.0.0.1:{port}"
        self.base_url = f"{self.origin}/v1"

    def log(self, model: str = "") -> list[dict[str, Any]]:
        """The requests since the last `forget`, oldest first, of one model or of all."""
        records: list[dict[str, Any]] = self._get("/_simulator/log")
        return [record for record in records if not model or record["model"] == model]

    def forget(self) -> None:
        """Empty the log."""
        request = urllib.request.Request(f"{self.origin}/_simulator/log", method="DELETE")
        urllib.request.urlopen(request, timeout=5).close()

    def stats(self) -> dict[str, int]:
        """Connections and requests, now and in total."""
        stats: dict[str, int] = self._get("/_simulator/stats")
        return stats

    def busy(self) -> int:
        """Requests of others that run now."""
        return self.stats()["in_flight"] - 1

    def _get(self, path: str) -> Any:
        with urllib.request.urlopen(f"{self.origin}{path}", timeout=5) as response:
            return json.load(response)


def until(condition: Callable[[], bool], within_s: float = SETTLE_S) -> float:
    """Wait until something has happened in another process; returns the seconds it took, raises AssertionError."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < within_s, f"it did not happen within {within_s} s"
        time.sleep(0.02)
    return time.monotonic() - began


@contextmanager
def running_upstream() -> Iterator[Upstream]:
    """Run the simulator as people do."""
    command = [sys.executable, str(ROOT / "tools" / "dev" / "simulator"), "--port", "0", "--log-size", "300"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=clean_environment()) as popen:
        try:
            assert popen.stdout is not None
            yield Upstream(json.loads(popen.stdout.readline())["port"])
        finally:
            popen.terminate()
            assert popen.wait(10) == 0
