"""The credential of a request: found in its headers, refused anywhere else. Whether it is valid the server decides."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol
from urllib.parse import parse_qsl

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import errors_pb2
from tokendance.gateway.v1.errors_pb2 import ErrorReason

MAX_CREDENTIAL = 4096

_QUERY_NAMES = frozenset({"key", "api_key", "api-key", "apikey", "x-api-key", "access_token", "token"})
_KEY_MARKS = ("tdk_", "sk-")


class Headers(Protocol):
    """Request headers: names without regard to case, several values to a name."""

    def get(self, key: str) -> str | None:
        """Return the first value."""

    def getall(self, key: str, default: list[str]) -> list[str]:
        """Return all values."""

    def __contains__(self, key: object) -> bool: ...


def read_credential(headers: Headers, query: str) -> str:
    """Return the credential without its scheme: printable ASCII, at most 4,096 characters.

    Raises missing_api_key, and the errors of `find_credential`.
    """
    found = find_credential(headers, query)
    if found is None:
        raise _error(
            errors_pb2.ERROR_REASON_MISSING_API_KEY,
            "Send the TokenDance API key in the header `Authorization: Bearer tdk_…`.",
        )
    return found


def find_credential(headers: Headers, query: str) -> str | None:
    """Return the credential without its scheme, as `read_credential` does, or None where there is none.

    Raises invalid_api_key, credentials_conflict, and credential_misplaced for one in the query string or in a cookie.
    """
    if query:
        _refuse_query(query)
    if "Cookie" in headers:
        _refuse_cookie(headers.getall("Cookie", []))
    found = headers.get("Authorization")
    if found is not None:
        if len(headers.getall("Authorization", [])) > 1:
            raise _error(errors_pb2.ERROR_REASON_CREDENTIALS_CONFLICT, "Send the Authorization header once.")
        found = _bearer(found)
    for name in ("x-api-key", "api-key"):
        if name in headers:
            for value in headers.getall(name, []):
                if found is not None and value.strip() != found:
                    raise _error(
                        errors_pb2.ERROR_REASON_CREDENTIALS_CONFLICT,
                        "Two different credentials came with the request; send one.",
                    )
                found = value.strip()
    if not found:
        return None
    if len(found) > MAX_CREDENTIAL or not found.isascii() or not found.isprintable() or " " in found:
        raise _error(
            errors_pb2.ERROR_REASON_INVALID_API_KEY, "The credential is too long or holds characters that no key has."
        )
    return found


def api_key_in(headers: Mapping[str, str]) -> bool:
    """Tell whether a request carries something that looks like an API key of the gateway."""
    if "x-api-key" in headers or "api-key" in headers:
        return True
    return any(mark in headers.get("Authorization", "") for mark in _KEY_MARKS)


def _bearer(value: str) -> str:
    if value[:7].lower() != "bearer ":
        if value.strip().lower() in {"", "bearer"}:
            return ""
        raise _error(
            errors_pb2.ERROR_REASON_INVALID_API_KEY,
            "The Authorization header must read `Bearer tdk_…`, with a TokenDance API key.",
        )
    return value[7:].strip()


def _refuse_query(query: str) -> None:
    for name, value in parse_qsl(query, max_num_fields=None):
        if name.lower() in _QUERY_NAMES or value.startswith("tdk_"):
            raise _misplaced("query string")


def _refuse_cookie(cookies: list[str]) -> None:
    for cookie in cookies:
        for pair in cookie.split(";"):
            if pair.partition("=")[2].strip().strip('"').startswith(_KEY_MARKS):
                raise _misplaced("cookie")


def _misplaced(place: str) -> GatewayError:
    return _error(
        errors_pb2.ERROR_REASON_CREDENTIAL_MISPLACED,
        f"The credential came in the {place}; send it in the Authorization header, and rotate it.",
    )


def _error(reason: ErrorReason.ValueType, message: str) -> GatewayError:
    return GatewayError(reason, message, origin="caller")
