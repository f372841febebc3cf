"""What holds for every test: no socket leaves this machine unless the test is marked `network`."""

import ipaddress
import socket
import sys
from collections.abc import Iterator

import pytest
from tests.servers import PostgresServer, running_postgres, running_redis

_LOCAL_NAMES = frozenset({"localhost", "ip6-localhost"})
_GUARDED = frozenset({"socket.bind", "socket.connect", "socket.getaddrinfo", "socket.sendmsg", "socket.sendto"})


class SocketRefusedError(RuntimeError):
    """A test reached for an address that is not loopback's."""


class _SocketGuard:
    """An audit hook, so it sees Python's own sockets whoever opens them; C libraries' it cannot see.

    An audit hook cannot be taken off again, hence the switch.
    """

    def __init__(self) -> None:
        self.closed = False

    def __call__(self, event: str, arguments: tuple[object, ...]) -> None:
        if not self.closed or event not in _GUARDED:
            return
        if event == "socket.getaddrinfo":
            host = arguments[0]
        else:
            opened, address = arguments[0], arguments[1]
            if not isinstance(opened, socket.socket) or opened.family == socket.AF_UNIX:
                return
            host = address[0] if isinstance(address, tuple) else address
        if not _is_loopback(host):
            message = f"{event} to {host!r}: tests reach loopback only, unless marked `network`"
            raise SocketRefusedError(message)


def _is_loopback(host: object) -> bool:
    """True for loopback addresses and names; an absent host is a question about this machine alone."""
    if host is None:
        return True
    text = host.decode() if isinstance(host, bytes) else str(host)
    if text in _LOCAL_NAMES:
        return True
    try:
        return ipaddress.ip_address(text).is_loopback
    except ValueError:
        return False


_guard = _SocketGuard()
sys.addaudithook(_guard)


@pytest.fixture(autouse=True)
def _loopback_only(request: pytest.FixtureRequest) -> Iterator[None]:
    """Closes the guard for the length of one test."""
    _guard.closed = request.node.get_closest_marker("network") is None
    yield
    _guard.closed = False


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A PostgreSQL that belongs to the tests."""
    with running_postgres() as server:
        yield server


@pytest.fixture(scope="session")
def redis_server() -> Iterator[str]:
    """The URL of a Redis or Valkey that belongs to the tests; a test that needs it empty flushes it first."""
    with running_redis() as url:
        yield url
