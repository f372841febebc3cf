"""The simulator as a server: connections, the log, the clients that leave, the command."""

import asyncio
import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from dev.simulator import Simulator

FOLDER = Path(__file__).parents[3] / "tools" / "dev" / "simulator"


@pytest.fixture
async def sim() -> AsyncIterator[Simulator]:
    """A simulator of its own for each test."""
    async with Simulator() as simulator:
        yield simulator


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    """A client that keeps connections."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)) as session:
        yield session


def chat(model: str, **fields: object) -> dict[str, object]:
    """A chat request's body."""
    return {"model": model, "messages": [{"role": "user", "content": "Hello there"}], **fields}


async def test_a_connection_is_kept_alive(sim: Simulator, http: aiohttp.ClientSession) -> None:
    """Documents and streams alike leave the connection usable."""
    for stream in (False, True, False):
        async with http.post(f"{sim.base_url}/chat/completions", json=chat("sim", stream=stream)) as answer:
            assert answer.status == 200
            await answer.read()
    assert (sim.connections_total, sim.open_connections) == (1, 1)
    assert {record.connection for record in sim.log} == {1}


async def test_the_log_records_the_request(sim: Simulator, http: aiohttp.ClientSession) -> None:
    """Method, path, headers, body, model, time, status and bytes are those of the request."""
    before = time.time()
    body = chat("sim", user="someone")
    async with http.post(f"{sim.base_url}/chat/completions?x=1", json=body, headers={"X-Marker": "yes"}) as answer:
        length = len(await answer.read())
    (record,) = sim.log
    assert (record.method, record.path) == ("POST", "/v1/chat/completions?x=1")
    assert record.headers["x-marker"] == "yes"
    assert json.loads(record.body) == body
    assert record.body_bytes == len(record.body)
    assert (record.model, record.status) == ("sim", 200)
    assert before <= record.time <= time.time()
    assert record.bytes_sent > length
    assert (record.ended, record.peer_left) == (True, False)


async def test_the_log_is_bounded() -> None:
    """The oldest requests and the tails of large bodies are dropped."""
    async with Simulator(log_size=3, keep_body_bytes=10) as sim, aiohttp.ClientSession() as http:
        for number in range(5):
            await (await http.post(f"{sim.base_url}/chat/completions", json=chat(f"sim:tokens={number}"))).read()
        assert [record.model for record in sim.log] == ["sim:tokens=2", "sim:tokens=3", "sim:tokens=4"]
        assert {len(record.body) for record in sim.log} == {10}
        assert sim.log[0].body_bytes > 10
        assert sim.requests_total == 5


@pytest.mark.parametrize(
    ("model", "stream"),
    [
        ("fault:stall", False),
        ("fault:stall-after:n=2", True),
        ("sim:tokens=1000:rate=100", True),
        ("sim:delay=30", False),
        ("sim:first=30", True),
        ("fault:slow-headers", False),
        ("fault:huge-body:mb=1000", True),
        ("fault:gzip-bomb:mb=100000", False),
    ],
)
async def test_a_client_that_leaves_is_noticed(sim: Simulator, model: str, stream: bool) -> None:
    """A client that closes before the answer has ended leaves peer_left, and nothing goes on for it."""
    body = json.dumps(chat(model, stream=stream)).encode()
    _, writer = await asyncio.open_connection("127.0.0.1", sim.port)
    writer.write(b"POST /v1/chat/completions HTTP/1.1\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
    async with asyncio.timeout(5):
        while not sim.log:
            await asyncio.sleep(0.005)
    await asyncio.sleep(0.05)
    assert (sim.in_flight, sim.open_connections) == (1, 1)
    writer.transport.abort()
    await sim.idle()
    (record,) = sim.log
    assert (record.peer_left, record.ended, sim.open_connections) == (True, False, 0)
    sent = record.bytes_sent
    await asyncio.sleep(0.05)
    assert record.bytes_sent == sent


async def test_a_client_that_leaves_after_the_answer_is_not_blamed(sim: Simulator, http: aiohttp.ClientSession) -> None:
    """peer_left is about answers, not about connections."""
    await (await http.post(f"{sim.base_url}/chat/completions", json=chat("sim", stream=True))).read()
    await http.close()
    async with asyncio.timeout(5):
        while sim.open_connections:
            await asyncio.sleep(0.005)
    assert [(record.ended, record.peer_left) for record in sim.log] == [(True, False)]


async def test_a_kept_connection_dies_under_the_next_request(sim: Simulator) -> None:
    """reset-on-reuse answers once; the next request on that connection gets no byte, a new connection does."""
    body = json.dumps(chat("fault:reset-on-reuse")).encode()
    request = b"POST /v1/chat/completions HTTP/1.1\r\ncontent-length: %d\r\n\r\n" % len(body) + body
    for _ in range(2):
        reader, writer = await asyncio.open_connection("127.0.0.1", sim.port)
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        await reader.readexactly(length)
        writer.write(request)
        assert await reader.read(-1) == b""
        writer.close()
    assert [record.status for record in sim.log] == [200, 0, 200, 0]
    assert [record.bytes_sent > 0 for record in sim.log] == [True, False, True, False]


async def test_a_slow_reader_holds_the_script(sim: Simulator) -> None:
    """Endless answers do not pile up in memory while nobody reads them."""
    body = json.dumps(chat("fault:huge-body:mb=500")).encode()
    _, writer = await asyncio.open_connection("127.0.0.1", sim.port, limit=1024)
    writer.write(b"POST /v1/chat/completions HTTP/1.1\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
    await asyncio.sleep(0.3)
    assert 0 < sim.log[0].bytes_sent < 50_000_000
    writer.transport.abort()
    await sim.idle()


async def test_requests_that_come_early_wait_their_turn(sim: Simulator) -> None:
    """Two requests sent at once are answered one after the other."""
    body = json.dumps(chat("sim:delay=0.05")).encode()
    request = b"POST /v1/chat/completions HTTP/1.1\r\ncontent-length: %d\r\n\r\n" % len(body) + body
    reader, writer = await asyncio.open_connection("127.0.0.1", sim.port)
    writer.write(request + request.replace(b"HTTP/1.1\r\n", b"HTTP/1.1\r\nconnection: close\r\n"))
    assert (await reader.read(-1)).count(b"HTTP/1.1 200 OK") == 2
    writer.close()


async def test_a_body_that_waits_to_be_asked_for_is_asked_for(sim: Simulator) -> None:
    """`Expect: 100-continue` is answered before the body comes."""
    body = json.dumps(chat("sim")).encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", sim.port)
    writer.write(
        b"POST /v1/chat/completions HTTP/1.1\r\nexpect: 100-continue\r\ncontent-length: %d\r\n\r\n" % len(body)
    )
    assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    writer.write(body)
    assert (await reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 200")
    writer.close()


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"nonsense\r\n\r\n", b"400"),
        (b"GET /v1/unknown HTTP/1.1\r\n\r\n", b"404"),
        (b"GET /v1/embeddings HTTP/1.1\r\n\r\n", b"405"),
        (b"POST /v1/chat/completions HTTP/1.1\r\ncontent-length: 1\r\n\r\n{", b"400"),
        (b"POST /v1/chat/completions HTTP/1.1\r\ncontent-length: 15\r\n\r\n" + b'{"model":"sim"}', b"400"),
        (b"POST /v1/embeddings HTTP/1.1\r\ncontent-length: 15\r\n\r\n" + b'{"model":"sim"}', b"400"),
        (b"POST /v1/chat/completions HTTP/1.1\r\ncontent-length: 15\r\n\r\n" + b'{"model":"gpt"}', b"404"),
    ],
)
async def test_a_request_it_cannot_serve_is_refused(sim: Simulator, request_bytes: bytes, status: bytes) -> None:
    """Refusals are plain statuses, never a hang."""
    reader, writer = await asyncio.open_connection("127.0.0.1", sim.port)
    writer.write(request_bytes)
    assert (await reader.readuntil(b"\r\n")).split()[1] == status
    writer.close()


async def test_stopping_ends_stalled_connections(http: aiohttp.ClientSession) -> None:
    """A stalled answer does not keep the simulator from stopping, and its client is not blamed."""
    async with Simulator() as sim:
        stalled = asyncio.ensure_future(http.post(f"{sim.base_url}/chat/completions", json=chat("fault:stall")))
        async with asyncio.timeout(5):
            while not sim.log:
                await asyncio.sleep(0.005)
    with pytest.raises(aiohttp.ClientError):
        await stalled
    assert not sim.log[0].peer_left


async def test_a_rate_is_kept(sim: Simulator, http: aiohttp.ClientSession) -> None:
    """Tokens come at the rate asked for, not all at once at the end."""
    started = time.monotonic()
    model = "sim:tokens=20:rate=100"
    async with http.post(f"{sim.base_url}/chat/completions", json=chat(model, stream=True)) as answer:
        times = [time.monotonic() - started async for line in answer.content if line.startswith(b"data: {")]
    assert len(times) == 22
    assert times[-1] > 0.2
    assert times[10] < times[-1] - 0.05


async def test_a_burst_goes_out_together_at_the_same_rate(sim: Simulator, http: aiohttp.ClientSession) -> None:
    """So many tokens share a write, and the stream takes as long as without bursts."""
    model = "sim:tokens=30:rate=200:burst=8"
    async with http.post(f"{sim.base_url}/chat/completions", json=chat(model, stream=True)) as answer:
        reads = [(time.monotonic(), data.count(b"data: ")) async for data in answer.content.iter_any()]
    assert [events for _, events in reads] == [8, 8, 8, 8, 1]  # role, 30 tokens, finish, [DONE]
    assert reads[-1][0] - reads[0][0] >= 4 * 8 / 200 - 0.02


@pytest.mark.parametrize("command", [[str(FOLDER)], ["-m", "dev.simulator"]])
def test_the_command_says_its_port_and_stops_when_told(command: list[str]) -> None:
    """Both ways to run it print one JSON line, serve, and end with 0 on SIGTERM."""
    process = subprocess.Popen([sys.executable, *command, "--port", "0"], stdout=subprocess.PIPE, cwd=FOLDER.parents[1])
    try:
        assert process.stdout is not None
        port = json.loads(process.stdout.readline())["port"]
        log = asyncio.run(_ask_and_read_the_log(port))
        assert [(record["model"], record["peer_left"]) for record in log] == [("sim", False), ("sim", False)]
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


async def _ask_and_read_the_log(port: int) -> list[dict[str, object]]:
    async with aiohttp.ClientSession() as http:
        for stream in (False, True):
            url = f"http://127.0.0.1:{port}/v1/chat/completions"
            async with http.post(url, json=chat("sim", stream=stream)) as answer:
                assert answer.status == 200
                await answer.read()
        async with http.get(f"http://127.0.0.1:{port}/_simulator/log") as answer:
            log: list[dict[str, object]] = await answer.json()
        async with http.get(f"http://127.0.0.1:{port}/_simulator/stats") as answer:
            assert (await answer.json())["requests_total"] == 2
        async with http.delete(f"http://127.0.0.1:{port}/_simulator/log") as answer:
            assert answer.status == 200
        async with http.get(f"http://127.0.0.1:{port}/_simulator/log") as answer:
            assert await answer.json() == []
        return log


def test_the_command_resets_connections() -> None:
    """RST works on the command's event loop too, before the answer and after its first events."""
    process = subprocess.Popen([sys.executable, str(FOLDER)], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        port = json.loads(process.stdout.readline())["port"]
        for model, least in (("fault:reset", 0), ("fault:reset-after:n=2", 300)):
            body = json.dumps(chat(model, stream=True)).encode()
            with socket.create_connection(("127.0.0.1", port), timeout=5) as client:
                client.sendall(b"POST /v1/chat/completions HTTP/1.1\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
                received = _received_until_reset(client)
            assert (received > 0) == (least > 0)
            assert received >= least
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def _received_until_reset(client: socket.socket) -> int:
    """Bytes before the RST; fails if the peer closed in peace."""
    received = 0
    try:
        while part := client.recv(65536):
            received += len(part)
    except ConnectionResetError:
        return received
    pytest.fail("closed without a reset")


def test_the_command_lists_its_faults() -> None:
    """--list-faults prints the table and ends."""
    done = subprocess.run([sys.executable, str(FOLDER), "--list-faults"], capture_output=True, text=True, check=True)
    assert "fault:reset-on-reuse" in done.stdout
    assert "sim-tools-parallel" in done.stdout


async def test_a_taken_port_is_one_clear_line(sim: Simulator) -> None:
    """A port in use is said, without a traceback."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(FOLDER), "--port", str(sim.port), stdout=-1, stderr=-1
    )
    out, err = await process.communicate()
    assert (process.returncode, out) == (1, b"")
    assert err.count(b"\n") == 1
    assert str(sim.port).encode() in err
