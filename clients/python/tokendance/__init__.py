"""TokenDance Gateway for Python: clients, errors, and the generated stubs below `tokendance.gateway.v1`.

The clients are loaded when they are first named: who needs only the errors does not load gRPC.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from tokendance.errors import GatewayError

if TYPE_CHECKING:
    from tokendance.aio import AsyncClient
    from tokendance.client import Client
    from tokendance.connection import last_request_id
    from tokendance.requests import text_message, text_of, vector_of
    from tokendance.streams import AsyncCompletionStream, CompletionStream

__all__ = [
    "AsyncClient",
    "AsyncCompletionStream",
    "Client",
    "CompletionStream",
    "GatewayError",
    "last_request_id",
    "text_message",
    "text_of",
    "vector_of",
]

_HOMES = {
    "AsyncClient": "tokendance.aio",
    "AsyncCompletionStream": "tokendance.streams",
    "Client": "tokendance.client",
    "CompletionStream": "tokendance.streams",
    "last_request_id": "tokendance.connection",
    "text_message": "tokendance.requests",
    "text_of": "tokendance.requests",
    "vector_of": "tokendance.requests",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
