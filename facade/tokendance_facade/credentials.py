"""The credential of a request: found in its headers, refused anywhere else. Whether it is valid the server decides."""

from __future__ import annotations

from typing import Protocol
from urllib.parse import parse_qsl

from tokendance.credentials import CredentialKind, is_stray, misplaced, recognise, stray_in_cookies
from tokendance.errors import GatewayError
from tokendance.gateway.v1 import errors_pb2
from tokendance.gateway.v1.errors_pb2 import ErrorReason

MAX_CREDENTIAL = 4096

_QUERY_NAMES = frozenset({"key", "api_key", "api-key", "apikey", "x-api-key", "access_token", "token"})
_KEY_HEADERS = ("x-api-key", "api-key")
# As the server's own bound on tokens.
_MAX_TOKEN = 8192


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


def find_credential(headers: Headers, query: str, *, people: bool = False) -> str | None:
    """Return the credential without its scheme, as `read_credential` does, or None where there is none.

    Where `people` sign in it is an access token, which may have 8,192 characters.
    Raises invalid_api_key (invalid_id_token for people), credentials_conflict, and credential_misplaced for one in the
    query string or in a cookie.
    """
    _refuse_strays(headers, query)
    found = headers.get("Authorization")
    if found is not None:
        if len(headers.getall("Authorization", [])) > 1:
            raise _error(errors_pb2.ERROR_REASON_CREDENTIALS_CONFLICT, "Send the Authorization header once.")
        found = _bearer(found, people=people)
    for name in _KEY_HEADERS:
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
    longest = _MAX_TOKEN if people else MAX_CREDENTIAL
    if len(found) > longest or not found.isascii() or not found.isprintable() or " " in found:
        what = "an access token of TokenDance ID" if people else "a TokenDance API key (tdk_…)"
        raise _error(
            _invalid(people=people),
            f"The credential is too long or holds characters that none has; send {what}, copied whole.",
        )
    return found


def refuse_keys(headers: Headers, query: str) -> None:
    """Refuse what has no meaning where people and operators' machines come; other credentials pass.

    Raises api_key_not_accepted, provider_key_not_accepted, hub_session_not_accepted, and credential_misplaced.
    """
    _refuse_strays(headers, query)
    keys = [value.strip() for name in _KEY_HEADERS for value in headers.getall(name, [])]
    values = [_after_scheme(value) for value in headers.getall("Authorization", [])]
    for value in (*keys, *values):
        if recognise(value) in (CredentialKind.PROVIDER_KEY, CredentialKind.HUB_SESSION):
            raise misplaced(value, people=True)
    if keys or any(recognise(value) is CredentialKind.API_KEY for value in values):
        raise _error(
            errors_pb2.ERROR_REASON_API_KEY_NOT_ACCEPTED,
            "This looks like an API key; it calls models on the public listener and has no meaning here. Send an "
            "access token of TokenDance ID.",
        )


def _after_scheme(value: str) -> str:
    scheme, _, rest = value.strip().partition(" ")
    return rest.strip() or scheme


def _bearer(value: str, *, people: bool) -> str:
    if value[:7].lower() != "bearer ":
        if value.strip().lower() in {"", "bearer"}:
            return ""
        what = (
            "Bearer …`, with an access token of TokenDance ID" if people else "Bearer tdk_…`, with a TokenDance API key"
        )
        raise _error(_invalid(people=people), f"The Authorization header must read `{what}.")
    return value[7:].strip()


def _refuse_strays(headers: Headers, query: str) -> None:
    if query:
        for name, value in parse_qsl(query, max_num_fields=None):
            if name.lower() in _QUERY_NAMES or is_stray(value):
                raise _misplaced("query string")
    if "Cookie" in headers and any(map(stray_in_cookies, headers.getall("Cookie", []))):
        raise _misplaced("cookie")


def _invalid(*, people: bool) -> ErrorReason.ValueType:
    return errors_pb2.ERROR_REASON_INVALID_ID_TOKEN if people else errors_pb2.ERROR_REASON_INVALID_API_KEY


def _misplaced(place: str) -> GatewayError:
    return _error(
        errors_pb2.ERROR_REASON_CREDENTIAL_MISPLACED,
        f"The credential came in the {place}; send it in the Authorization header, and rotate it.",
    )


def _error(reason: ErrorReason.ValueType, message: str) -> GatewayError:
    return GatewayError(reason, message, origin="caller")
