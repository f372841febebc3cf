"""Routing on the raw path, decoded once: the one decision about what a request is. Knows no redirects."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import errors_pb2
from tokendance.gateway.v1.errors_pb2 import Surface
from tokendance_facade.answers import Reply
from tokendance_facade.exchange import Exchange

Handler = Callable[[Exchange], Awaitable[Reply]]


class Route(NamedTuple):
    """One row of the table. A path that ends in `/*` takes any rest of at least one character, slashes included."""

    method: str
    path: str
    surface: Surface.ValueType
    handler: Handler


class RouteTable:
    """Finds the row of a request."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self._exact: dict[str, dict[str, Route]] = {}
        self._prefixes: dict[str, dict[str, Route]] = {}
        self.rows = tuple(routes)
        """Every row, as given."""
        for route in self.rows:
            table = self._exact
            path = route.path
            if path.endswith("/*"):
                table, path = self._prefixes, path[:-1]
            methods = table.setdefault(path, {})
            methods[route.method] = route
            if route.method == "GET":
                methods["HEAD"] = route

    def find(self, exchange: Exchange) -> Route | None:
        """Return the row and note it in the exchange; None for OPTIONS on a path that is there.

        Raises not_found and method_not_allowed, the latter with the methods in its metadata.
        """
        methods = self._exact.get(exchange.path)
        if methods is None:
            methods = self._search(exchange)
        route = methods.get(exchange.request.method)
        if route is None:
            allowed = ", ".join(sorted({*methods, "OPTIONS"}))
            exchange.surface = next(iter(methods.values())).surface
            if exchange.request.method == "OPTIONS":
                exchange.headers += (("allow", allowed),)
                return None
            raise GatewayError(
                errors_pb2.ERROR_REASON_METHOD_NOT_ALLOWED,
                f"This path takes {allowed}.",
                metadata={"allow": allowed},
                origin="caller",
            )
        exchange.surface = route.surface
        exchange.route = f"{route.method} {route.path}"
        return route

    def _search(self, exchange: Exchange) -> dict[str, Route]:
        try:
            path = unquote_to_bytes(exchange.path).decode()
        except UnicodeDecodeError:
            raise _not_found() from None
        methods = self._exact.get(path)
        if methods is not None:
            return methods
        for prefix, candidates in self._prefixes.items():
            if path.startswith(prefix) and len(path) > len(prefix):
                exchange.tail = path[len(prefix) :]
                return candidates
        raise _not_found()


def _not_found() -> GatewayError:
    return GatewayError(
        errors_pb2.ERROR_REASON_NOT_FOUND,
        "There is nothing at this path; the base URL of the API ends in `/v1`.",
        origin="caller",
    )
