"""Script calls: those of one tick travel together, to the node of the cluster that has the organization."""

from __future__ import annotations

import asyncio
import hashlib
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import hiredis
import msgspec

from tokendance_server.domain.quota.counters import CountersUnavailableError
from tokendance_server.stores.redis_batches import Batch
from tokendance_server.stores.redis_link import Link, LinkLostError, connect
from tokendance_server.stores.redis_script import SCRIPT

_SCRIPT = SCRIPT.encode()
_DIGEST = hashlib.sha1(_SCRIPT).hexdigest().encode()  # noqa: S324 - the name that Redis gives to a script
_CHANNEL = b"tokendance:assert"
_MOST_MOVES = 5
_TIMED = 256
_Address = tuple[str, int]
_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.decode


def prefix_of(organization: str) -> str:
    """Return what all keys of an organization start with: its hash tag."""
    return f"td:q:{{{organization}}}"


class Calls:
    """Sends the operations of organizations. `asserted` is told the prefix of which holds must be told again.

    Nothing is sent twice: what has no answer within `deadline_s` may have been done, and its connection is given up.
    `time` replaces the server's own clock in tests, in seconds since 1970.
    """

    def __init__(
        self,
        url: str,
        node_id: str,
        live: Callable[[], Sequence[str]],
        asserted: Callable[[str], None],
        *,
        deadline_s: float,
        lease_s: float,
        time: Callable[[], float] | None,
    ) -> None:
        self._url = url
        self._node_id = node_id
        self._live = live
        self._asserted = asserted
        self._deadline_s = deadline_s
        self._lease_s = lease_s
        self._time = time
        self._batches: dict[str, Batch] = {}
        self._links: dict[_Address | None, asyncio.Task[tuple[Link, str]]] = {}
        self._places: dict[str, _Address] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        # When each of the last calls was answered, in the loop's seconds, and how long it took.
        self._took: deque[tuple[float, float]] = deque(maxlen=_TIMED)

    def batch(self, organization: str) -> Batch:
        """Return the call that leaves at the end of this tick."""
        batch = self._batches.get(organization)
        if batch is None:
            if not self._batches:
                asyncio.get_running_loop().call_soon(self._flush)
            batch = self._batches[organization] = Batch()
        return batch

    def latency_s(self) -> float | None:
        """Return the median time of the last calls, none older than a minute, in seconds; None without any."""
        since = asyncio.get_running_loop().time() - 60
        took = sorted(seconds for answered, seconds in self._took if answered >= since)
        return took[len(took) // 2] if took else None

    async def close(self) -> None:
        """End the connections."""
        for task in (*self._tasks, *self._links.values()):
            if task.done() and not task.cancelled() and task.exception() is None:
                found = task.result()
                if found is not None:
                    found[0].close()
            task.cancel()
        pending = [one for one in (*self._tasks, *self._links.values()) if not one.done()]
        if pending:
            await asyncio.wait(pending)
        self._links.clear()
        # The sockets are closed in the next turn of the loop.
        await asyncio.sleep(0)

    def _flush(self) -> None:
        batches, self._batches = self._batches, {}
        for organization, batch in batches.items():
            task = asyncio.create_task(self._send(organization, batch))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _send(self, organization: str, batch: Batch) -> None:
        try:
            async with asyncio.timeout(self._deadline_s):
                now, answers = await self._run(organization, batch)
        except (LinkLostError, TimeoutError) as exc:
            self._drop(self._places.pop(organization, None))
            _tell(batch, f"{type(exc).__name__} {exc}".strip())
            return
        except asyncio.CancelledError:
            _tell(batch, "closed")
            raise
        if answers is None:
            _tell(batch, str(now))
            return
        for waiting, answer in zip(batch.waiting, answers, strict=True):
            if not waiting.done():
                waiting.set_result((now, answer))

    async def _run(self, organization: str, batch: Batch) -> tuple[Any, list[Any] | None]:
        for _ in range(_MOST_MOVES):
            link, run = await self._link(self._places.get(organization))
            told = (
                self._time() if self._time else 0,
                self._node_id,
                run,
                list(self._live()),
                self._lease_s,
                batch.rows,
                batch.operations,
            )
            words = (b"1", prefix_of(organization).encode(), _pack(told))
            loop = asyncio.get_running_loop()
            asked = loop.time()
            answer = await link.ask(b"EVALSHA", _DIGEST, *words)
            self._took.append((loop.time(), loop.time() - asked))
            if isinstance(answer, hiredis.ReplyError):
                # Each of these is said before anything is done.
                kind, _, rest = str(answer).partition(" ")
                if kind == "NOSCRIPT":
                    await link.ask(b"SCRIPT", b"LOAD", _SCRIPT)
                    continue
                if kind == "MOVED":
                    host, _, port = rest.split()[-1].rpartition(":")
                    self._places[organization] = (host, int(port))
                    continue
                return str(answer), None
            now, answers = _unpack(answer)
            return now, answers
        return "the script's place was not found", None

    async def _link(self, address: _Address | None) -> tuple[Link, str]:
        task = self._links.get(address)
        if task is None or (task.done() and (task.cancelled() or task.exception() or not task.result()[0].alive)):
            task = self._links[address] = asyncio.create_task(self._connect(address))
        return await asyncio.shield(task)

    async def _connect(self, address: _Address | None) -> tuple[Link, str]:
        link = None
        try:
            async with asyncio.timeout(self._deadline_s * 4):
                link = await connect(self._url, self._pushed, address)
                info = await link.ask(b"INFO", b"server")
                await link.ask(b"SCRIPT", b"LOAD", _SCRIPT)
                link.subscribe(_CHANNEL)
        except BaseException as exc:
            if link is not None:
                link.close()
            if isinstance(exc, TimeoutError):
                raise LinkLostError("silent") from exc
            raise
        text = info.decode() if isinstance(info, bytes) else str(info)
        run = next((line[7:] for line in text.splitlines() if line.startswith("run_id:")), "")
        return link, run

    def _drop(self, address: _Address | None) -> None:
        for place in {address, None}:
            task = self._links.get(place)
            # One that is being made ends by itself in time, and may serve the next call.
            if task is not None and task.done():
                del self._links[place]
                if not task.cancelled() and task.exception() is None:
                    task.result()[0].close()

    def _pushed(self, message: list[Any]) -> None:
        if len(message) == 3 and message[0] == b"message":
            self._asserted(message[2].decode())


def _tell(batch: Batch, why: str) -> None:
    for waiting in batch.waiting:
        if not waiting.done():
            waiting.set_exception(CountersUnavailableError(why))
