"""Why an address cannot be reached, with real sockets that behave badly."""

import errno
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from http.client import HTTPException
from pathlib import Path

import pytest
from tests.tools.tokendance_cli.certificates import write_certificate
from tests.tools.tokendance_cli.conftest import Run

from tokendance_cli.reach import Trouble, explain
from tokendance_cli.rest import send

Serve = Callable[[Callable[[socket.socket], None]], str]


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    """The developer's own proxies are no part of a test."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Lets a function have every connection to an address; returns host and port."""
    listening: list[socket.socket] = []
    threads: list[threading.Thread] = []

    def start(behave: Callable[[socket.socket], None]) -> str:
        server = socket.create_server(("127.0.0.1", 0))
        server.settimeout(20)
        listening.append(server)

        def accept() -> None:
            try:
                while True:
                    connection, _ = server.accept()
                    with connection:
                        behave(connection)
            except OSError:
                return

        threads.append(threading.Thread(target=accept, daemon=True))
        threads[-1].start()
        return f"127.0.0.1:{server.getsockname()[1]}"

    yield start
    for one in listening:
        one.shutdown(socket.SHUT_RDWR)
        one.close()
    for thread in threads:
        thread.join(5)


def _trouble(url: str, timeout_s: float = 5) -> Trouble:
    with pytest.raises((OSError, HTTPException)) as caught:
        send(url, "", None, timeout_s=timeout_s).close()
    assert isinstance(caught.value, (OSError, HTTPException))
    return explain(caught.value, url, timeout_s)


def test_nothing_listens() -> None:
    """A refused connection."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        trouble = _trouble(f"http://127.0.0.1:{free.getsockname()[1]}/v1")
    assert "connection refused" in trouble.why
    assert any("host and port" in hint for hint in trouble.hints)


def test_silence(serve: Serve) -> None:
    """A server that takes the request and says nothing."""
    done = threading.Event()

    def silent(_: socket.socket) -> None:
        done.wait(5)

    address = serve(silent)
    trouble = _trouble(f"http://{address}/v1", 0.3)
    done.set()
    assert trouble.why == "nothing was heard for 0.3 seconds"


def test_closed_without_an_answer(serve: Serve) -> None:
    """As ports do that speak TLS."""

    def close(connection: socket.socket) -> None:
        connection.recv(4096)

    trouble = _trouble(f"http://{serve(close)}/v1")
    assert trouble.why == "the connection was closed without an answer"
    assert "https://" in trouble.hints[0]


def test_what_speaks_no_http(serve: Serve) -> None:
    """As the gRPC port does, with the settings frame of HTTP/2."""

    def grpc(connection: socket.socket) -> None:
        connection.recv(4096)
        connection.sendall(b"\x00\x00\x06\x04\x00\x00\x00\x00\x00\x00\x05\x00\x00\x40\x00\n")

    trouble = _trouble(f"http://{serve(grpc)}/v1")
    assert trouble.why == "what answers speaks no HTTP/1.1"
    assert "gRPC" in trouble.hints[0]


def test_no_tls_on_the_port(serve: Serve) -> None:
    """https:// to a port that is plain."""

    def plain(connection: socket.socket) -> None:
        connection.recv(4096)
        connection.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")

    address = serve(plain)
    trouble = _trouble(f"https://{address}/v1")
    assert trouble.why == "there is no TLS on this port"
    assert f"http://{address}/v1" in trouble.hints[0]


@pytest.mark.parametrize(
    ("trusted", "name", "days", "words"),
    [
        (False, "127.0.0.1", (-1, 1), "SSL_CERT_FILE"),
        (True, "127.0.0.1", (-9, -1), "clock"),
        (True, "127.0.0.1", (1, 9), "clock"),
        (True, "127.9.9.9", (-1, 1), "issued for another address"),
    ],
)
def test_certificates_that_are_not_trusted(
    serve: Serve,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    trusted: bool,
    name: str,
    days: tuple[int, int],
    words: str,
) -> None:
    """An unknown issuer, an expired one, one from the future and another address each have their advice."""
    file = write_certificate(tmp_path, name, days)
    if trusted:
        monkeypatch.setenv("SSL_CERT_FILE", str(file))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)

    def tls(connection: socket.socket) -> None:
        try:
            context.wrap_socket(connection, server_side=True).close()
        except OSError:
            return

    trouble = _trouble(f"https://{serve(tls)}/v1")
    assert trouble.why.startswith("its certificate is not trusted (")
    assert words in trouble.hints[0]


@pytest.mark.parametrize(
    ("error", "why", "hint"),
    [
        (OSError(errno.ENETUNREACH, "x"), "there is no way to it from this network", "and the network."),
        (OSError(errno.EHOSTUNREACH, "x"), "there is no way to it from this network", "and the network."),
        (BrokenPipeError(), "the connection was closed without an answer", "write https://"),
        (OSError(errno.EIO, "Input/output error"), "Input/output error", "and the network."),
    ],
)
def test_what_no_socket_here_does(error: OSError, why: str, hint: str) -> None:
    """Networks without a way, and TLS that fails for a reason of its own."""
    trouble = explain(error, "https://gateway.example/v1", 5)
    assert trouble.why == why
    assert hint in trouble.hints[0]


def test_tls_that_fails_otherwise() -> None:
    """With the library's own reason."""
    error = ssl.SSLError()
    error.reason = "TLSV1_ALERT_INTERNAL_ERROR"
    assert explain(error, "https://gateway.example/v1", 5).why == "TLS fails (TLSV1_ALERT_INTERNAL_ERROR)"


def test_a_certificate_of_another_name() -> None:
    """By X.509's own code, as OpenSSL's words for it change."""
    error = ssl.SSLCertVerificationError()
    error.verify_code, error.verify_message = 62, "Hostname mismatch"
    trouble = explain(error, "https://gateway.example/v1", 5)
    assert trouble.why == "its certificate is not trusted (Hostname mismatch)"
    assert trouble.hints[0].startswith("It was issued for another name")


def test_the_proxy_is_named_without_its_user(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the environment sends the call elsewhere, that is where to look first."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        monkeypatch.setenv("http_proxy", f"http://user:proxy-secret@127.0.0.1:{port}")
        trouble = _trouble("http://127.0.0.2:9/v1")
    assert trouble.why.endswith(f"by way of the proxy 127.0.0.1:{port}")
    assert "NO_PROXY" in trouble.hints[0]
    assert "proxy-secret" not in repr(trouble)


def test_a_name_that_is_not_known(run: Run) -> None:
    """The top-level domain `invalid` never has names."""
    told = run(
        "models", "list", TOKENDANCE_BASE_URL="https://gateway.invalid/v1", TOKENDANCE_API_KEY="tdk_made-up",
        RES_OPTIONS="timeout:1 attempts:1",
    )  # fmt: skip
    assert told.returncode == 3
    assert "its name is not known (gateway.invalid)" in told.stderr
