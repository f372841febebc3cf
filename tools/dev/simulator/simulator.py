"""The simulator: listens on loopback, asks the dialects for answers, keeps the log."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from types import TracebackType
from typing import Any, Self

import orjson

from . import anthropic, gemini, openai
from .answer import IMMEDIATE_BYTES, Answer, Script
from .connection import Connection
from .faults import script_of
from .openai.errors import error_body, refusal
from .records import Record
from .scripts import Call

# (method, path, body) -> Answer, or None if the path is another dialect's.
DIALECTS = (openai.answer, anthropic.answer, gemini.answer)

_CREDENTIAL_HEADERS = (b"authorization", b"x-api-key", b"x-goog-api-key", b"api-key")

CACHED_ANSWERS = 512
CACHED_BODY_BYTES = 16 * 1024
COUNTED_MODELS = 10_000


class Simulator:
    """An upstream that answers deterministically and misbehaves on demand; see the package's docstring.

    `port` 0 takes any free one. The log keeps the last `log_size` requests, `keep_body_bytes` of each body.
    Start and stop it in one event loop: `async with Simulator() as sim`.
    """

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        log_size: int = 10_000,
        keep_body_bytes: int = 1024 * 1024,
    ) -> None:
        self._host = host
        self._wanted_port = port
        self._keep_body_bytes = keep_body_bytes
        self._server: asyncio.Server | None = None
        self._connections: set[Connection] = set()
        self._answers: dict[tuple[str, str, bytes], Answer] = {}
        self._seen: Counter[str] = Counter()
        self._in_flight = 0
        self._quiet = asyncio.Event()
        self._quiet.set()
        self._empty = asyncio.Event()
        self._empty.set()
        self.log: deque[Record] = deque(maxlen=log_size)
        self.connections_total = 0
        self.requests_total = 0

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Listens; raises OSError if the port is taken."""
        self._server = await asyncio.get_running_loop().create_server(
            lambda: Connection(self, self._keep_body_bytes), self._host, self._wanted_port, backlog=4096
        )

    async def stop(self) -> None:
        """Stops listening and ends every connection, stalled ones included."""
        if self._server is None:
            return
        self._server.close()
        for connection in list(self._connections):
            connection.abandon()
        await self._server.wait_closed()
        self._server = None
        await self._empty.wait()

    @property
    def port(self) -> int:
        """The port it listens on."""
        if self._server is None:
            raise RuntimeError("The simulator is not running.")
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    @property
    def origin(self) -> str:
        """Scheme, host and port, without a path."""
        return f"http://{self._host}:{self.port}"

    @property
    def base_url(self) -> str:
        """What an OpenAI client takes as its base URL."""
        return f"{self.origin}/v1"

    @property
    def open_connections(self) -> int:
        """Connections open now."""
        return len(self._connections)

    @property
    def in_flight(self) -> int:
        """Requests whose answer has not ended and whose client is still there."""
        return self._in_flight

    async def idle(self, timeout_s: float = 5.0) -> None:
        """Waits until no request is in flight; raises TimeoutError."""
        async with asyncio.timeout(timeout_s):
            await self._quiet.wait()

    # what connections ask

    def opened(self, connection: Connection) -> int:
        """Counts the connection; returns its number, the first being 1."""
        self._connections.add(connection)
        self._empty.clear()
        self.connections_total += 1
        return self.connections_total

    def closed(self, connection: Connection) -> None:
        """Forgets the connection."""
        self._connections.discard(connection)
        if not self._connections:
            self._empty.set()

    def begun(self, record: Record) -> None:
        """Counts and logs a request, unless it asks about the log."""
        self._in_flight += 1
        self._quiet.clear()
        if not record.path.startswith("/_simulator/"):
            self.requests_total += 1
            self.log.append(record)

    def over(self) -> None:
        """One request less in flight."""
        self._in_flight -= 1
        if not self._in_flight:
            self._quiet.set()

    def answer(self, record: Record, body: bytes) -> Answer:
        """The answer to a request: equal requests share one. Notes the model in the record."""
        key = (record.method, record.path, body)
        answer = self._answers.get(key)
        if answer is None:
            answer = self._make_answer(record, body)
            if len(body) <= CACHED_BODY_BYTES and self._is_small(answer):
                if len(self._answers) >= CACHED_ANSWERS:
                    self._answers.clear()
                self._answers[key] = answer
        if answer.plan is not None:
            record.model = answer.plan.model
        record.tokens = answer.tokens
        return answer

    def script(self, answer: Answer, record: Record) -> Script:
        """The script of an answer that cannot be written at once."""
        assert answer.plan is not None  # only answers of a model have one
        if len(self._seen) >= COUNTED_MODELS:
            self._seen.clear()
        seen = self._seen[answer.plan.model]
        self._seen[answer.plan.model] += 1
        credential = next(filter(None, map(record.header, _CREDENTIAL_HEADERS)), "")
        return script_of(answer, Call(answer.plan, credential, seen))

    def _make_answer(self, record: Record, body: bytes) -> Answer:
        path = record.path.partition("?")[0]
        if path.startswith("/_simulator/"):
            return self._about_itself(record.method, path)
        for dialect in DIALECTS:
            answer = dialect(record.method, path, body)
            if answer is not None:
                return answer
        return refusal(404, "not_found", f"The simulator has no {record.method} {path}.")

    def _is_small(self, answer: Answer) -> bool:
        """Whether an answer may be cached; the ones about the simulator itself change and may not."""
        return answer.plan is not None and len(answer.wire) <= IMMEDIATE_BYTES

    def _about_itself(self, method: str, path: str) -> Answer:
        """GET /_simulator/log and /_simulator/stats, DELETE /_simulator/log: for tests in other processes."""
        content: Any
        if path == "/_simulator/log" and method == "GET":
            content = [record.as_json() for record in self.log]
        elif path == "/_simulator/log" and method == "DELETE":
            self.log.clear()
            content = []
        elif path == "/_simulator/stats" and method == "GET":
            content = {
                "open_connections": self.open_connections,
                "connections_total": self.connections_total,
                "requests_total": self.requests_total,
                "in_flight": self.in_flight,
            }
        else:
            return refusal(404, "not_found", f"The simulator has no {method} {path}.")
        body = orjson.dumps(content)
        return Answer(None, False, lambda: body, tuple, error_body)
