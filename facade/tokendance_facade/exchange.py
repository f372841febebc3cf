"""One HTTP request on its way through the facade, and what its handler needs to answer it."""

from __future__ import annotations

from aiohttp.web import BaseRequest

from tokendance.gateway.v1 import errors_pb2
from tokendance.gateway.v1.errors_pb2 import Surface
from tokendance_facade.answers import Answer, Header


class Exchange:
    """A request with its id. `called` is set once it has become an RPC: from then on the server keeps its record."""

    __slots__ = ("called", "headers", "path", "query", "request", "request_id", "route", "surface", "tail")

    def __init__(self, request: BaseRequest, request_id: str) -> None:
        self.request = request
        self.request_id = request_id
        self.path, _, self.query = request.raw_path.partition("?")
        self.surface: Surface.ValueType = errors_pb2.SURFACE_GATEWAY
        self.route = ""
        """Method and path as the route table writes them, for the server's record."""
        self.tail = ""
        """What stands behind the prefix of a route that takes the rest of the path, decoded once."""
        self.headers: tuple[Header, ...] = ()
        """Headers that go out with any answer, such as those of CORS."""
        self.called = False

    def answer(self, status: int, body: bytes, *, headers: tuple[Header, ...] = (), close: bool = False) -> Answer:
        """Return a JSON answer."""
        return Answer(status, body, self.request_id, headers=(*self.headers, *headers), close=close)
