"""Both clients with callers that leave: nobody gets the answer of another."""

import asyncio
import random
import re

import pytest
import uvloop
from tests.server.providers.byte_servers import (
    HEAD,
    LOOPBACK,
    ask,
    serving,
)

from tokendance_server.providers.transport import Client, Transport, open_transport


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer each request with its own number, sometimes late, in pieces, chunked, or with a word ahead of it."""
    dice = random.Random(id(writer))
    while True:
        head = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"(?i)content-length: (\d+)", head)
        assert length is not None
        number = await reader.readexactly(int(length[1]))
        text = number + b"x" * dice.choice((0, 10, 5000))
        answer = b"HTTP/1.1 100 Continue\r\n\r\n" if dice.random() < 0.1 else b""
        if dice.random() < 0.5:
            answer += HEAD + b"content-length: %d\r\n\r\n%b" % (len(text), text)
        else:
            answer += HEAD + b"transfer-encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(text), text)
        cut = dice.randrange(len(answer))
        for piece in (answer[:cut], answer[cut:]):
            writer.write(piece)
            if dice.random() < 0.7:
                await asyncio.sleep(dice.random() * 0.002)


async def leave_at_random(transport: Transport, calls: int) -> tuple[int, int]:
    """Make calls of which many are cancelled; returns how many were answered and how many left."""
    dice = random.Random(7)
    gate = asyncio.Semaphore(16)
    counts = {"answered": 0, "left": 0}

    async def one(number: int, url: str, patience_s: float | None) -> None:
        name = b"call-%08d." % number
        async with gate:
            try:
                async with asyncio.timeout(patience_s):
                    got = await ask(transport, url, body=name)
            except TimeoutError:
                counts["left"] += 1
                return
            assert got.startswith(name), "an answer of another call"
            assert got[len(name) :].strip(b"x") == b""
            counts["answered"] += 1

    async with serving(echo) as url:
        async with asyncio.TaskGroup() as group:
            for number in range(calls):
                group.create_task(one(number, url, dice.random() * 0.003 if dice.random() < 0.6 else None))
        await transport.close()
    return counts["answered"], counts["left"]


@pytest.mark.parametrize("calls", [1000, pytest.param(10_000, marks=pytest.mark.long)])
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_nobody_gets_the_answer_of_another(upstream_client: Client, calls: int, loop: str) -> None:
    """However many leave, wherever they leave: a connection is used again only behind a whole answer."""

    async def check() -> tuple[int, int]:
        return await leave_at_random(open_transport(upstream_client, LOOPBACK), calls)

    factory = uvloop.new_event_loop if loop == "uvloop" else asyncio.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        answered, left = runner.run(check())
    assert answered + left == calls
    assert min(answered, left) > calls // 10
