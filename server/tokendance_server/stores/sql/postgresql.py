"""PostgreSQL: a pool of connections to a server, and what its failures are called."""

from __future__ import annotations

import socket
import ssl
from typing import Any
from urllib.parse import parse_qs, urlsplit

import asyncpg
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from tokendance_server.stores.errors import StoreUnavailableError

POOL_SIZE = 10
_WAIT_S = 10
CONNECT_S = 5
_STATEMENT_S = 10
# Behind the server's own limit, for a server that no longer answers at all.
_ANSWER_S = 15
_RECYCLE_S = 1800
READ_OPTIONS = {"isolation_level": "AUTOCOMMIT"}
"""Execution options of a connection that reads with one statement and needs no transaction around it."""


def make_engine(url: str, *, connect_s: float = CONNECT_S, read_only: bool = False) -> AsyncEngine:
    """Return the engine of `postgresql://USER:PASSWORD@HOST:PORT/NAME`; the server holds a `read_only` one to it.

    Connecting raises StoreUnavailableError, for want of an answer after `connect_s` seconds.
    """

    async def connect() -> Any:
        try:
            return await asyncpg.connect(
                dsn=url,
                timeout=connect_s,
                command_timeout=_ANSWER_S,
                server_settings={
                    "application_name": "tokendance-gateway",
                    "statement_timeout": f"{_STATEMENT_S}s",
                    "idle_in_transaction_session_timeout": f"{2 * _STATEMENT_S}s",
                    "default_transaction_read_only": "on" if read_only else "off",
                },
            )
        except (OSError, ValueError, asyncpg.PostgresError, asyncpg.InterfaceError) as exc:
            # Not chained: the driver's words may hold the URL, and with it the password.
            raise StoreUnavailableError(f"the database {_refusal(exc, connect_s)}") from None

    return create_async_engine(
        "postgresql+asyncpg://",
        async_creator=connect,
        pool_size=POOL_SIZE,
        max_overflow=0,
        pool_timeout=_WAIT_S,
        pool_pre_ping=True,
        pool_recycle=_RECYCLE_S,
        # What is not needed any more stays idle, instead of all being used in turn.
        pool_use_lifo=True,
        hide_parameters=True,
    )


def place_of(url: str) -> str:
    """Return `HOST:PORT/NAME`, to be shown to operators: no user, no password."""
    parts = urlsplit(url)
    hosts = parts.netloc.rpartition("@")[2] or parse_qs(parts.query).get("host", ["localhost"])[0]
    return f"{hosts}{parts.path}"


def describe(error: DBAPIError) -> str:
    """Return the kind of a failure, its SQLSTATE and the constraint; the driver's own words would hold values."""
    cause = error.orig.__cause__ if error.orig is not None else None
    parts = [type(cause or error.orig or error).__name__]
    parts += [str(found) for name in ("sqlstate", "constraint_name") if (found := getattr(cause, name, None))]
    return " ".join(parts)


def check_encoding(connection: Connection) -> None:
    """Raise StoreUnavailableError for a database that does not keep Unicode."""
    encoding = connection.execute(text("SHOW server_encoding")).scalar()
    if encoding != "UTF8":
        raise StoreUnavailableError(
            f"it keeps {encoding} instead of UTF8: create another with `createdb --encoding=UTF8 --template=template0`"
        )


def _refusal(error: Exception, connect_s: float) -> str:
    match error:
        case asyncpg.InvalidAuthorizationSpecificationError():
            return "refuses the user or the password"
        case asyncpg.InvalidCatalogNameError():
            return "does not exist"
        case asyncpg.TooManyConnectionsError():
            return "takes no more connections"
        case asyncpg.PostgresError():
            return f"refuses the connection ({type(error).__name__} {error.sqlstate})"
        case TimeoutError():
            return f"does not answer within {connect_s:g} s"
        case ssl.SSLError():
            return f"cannot be trusted or speaks no TLS ({error.reason or type(error).__name__})"
        case socket.gaierror():
            return "is on a host whose name is not known"
        case ConnectionRefusedError() | FileNotFoundError():
            return "cannot be reached: nothing listens there"
        case OSError():
            return f"cannot be reached ({type(error).__name__})"
        case _:
            return f"cannot be used as the URL says ({type(error).__name__})"
