"""What browsers send: the fields of a form, and the proof that the form is one of ours."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
from urllib.parse import parse_qsl

from aiohttp.web import BaseRequest

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import errors_pb2

CSRF_FIELD = "csrf"

_TYPE = "application/x-www-form-urlencoded"
_MOST_BYTES = 256 * 1024
_MOST_FIELDS = 500
_PATIENCE_S = 20.0
_SAME = ("same-origin", "none")


class Values:
    """The fields of a form or a query string: names with one or several texts."""

    def __init__(self, pairs: list[tuple[str, str]] | None = None) -> None:
        self._values: dict[str, list[str]] = {}
        for name, value in pairs or ():
            self._values.setdefault(name, []).append(value)

    def get(self, name: str, otherwise: str = "") -> str:
        """Return the one text of a field without spaces at its ends; the last where there are several."""
        found = self._values.get(name)
        return found[-1].strip() if found else otherwise

    def all(self, name: str) -> list[str]:
        """Return all texts of a field that are not empty."""
        return [value.strip() for value in self._values.get(name, ()) if value.strip()]

    def lines(self, name: str) -> list[str]:
        """Return the lines of a field, or its parts between commas, that are not empty."""
        return [one.strip() for one in self.get(name).replace(",", "\n").splitlines() if one.strip()]

    def has(self, name: str) -> bool:
        """Tell whether a field is there with some text."""
        return bool(self.get(name))

    def items(self) -> list[tuple[str, str]]:
        """Return every pair."""
        return [(name, value) for name, values in self._values.items() for value in values]


def read_query(query: str) -> Values:
    """Return the fields of a query string. Raises invalid_request."""
    return Values(_pairs(query))


async def read_form(request: BaseRequest) -> Values:
    """Return the fields of the body. Raises unsupported_media_type, request_too_large and invalid_request."""
    if request.headers.get("Content-Type", "").partition(";")[0].strip().lower() != _TYPE:
        raise GatewayError(
            errors_pb2.ERROR_REASON_UNSUPPORTED_MEDIA_TYPE, "Pages of the console send forms only.", origin="caller"
        )
    pieces: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(_PATIENCE_S):
            while piece := await request.content.readany():
                size += len(piece)
                if size > _MOST_BYTES:
                    raise GatewayError(
                        errors_pb2.ERROR_REASON_REQUEST_TOO_LARGE, "The form holds too much.", origin="caller"
                    )
                pieces.append(piece)
    except TimeoutError:
        raise _invalid("The form did not arrive in time; send it again.") from None
    try:
        return Values(_pairs(b"".join(pieces).decode()))
    except UnicodeDecodeError:
        raise _invalid("The form is not in UTF-8.") from None


def csrf_token(form_key: bytes, path: str) -> str:
    """Return the proof that a form to `path` was made for the session of this key."""
    proof = hmac.digest(form_key, path.encode(), hashlib.sha256)
    return base64.urlsafe_b64encode(proof).rstrip(b"=").decode()


def check_csrf(form_key: bytes, path: str, values: Values) -> None:
    """Raise permission_denied for a form that was not made for this session and path."""
    if not hmac.compare_digest(csrf_token(form_key, path).encode(), values.get(CSRF_FIELD).encode()):
        raise _forged("The form was not made for your session, or is too old; open the page again.")


def check_same_origin(request: BaseRequest, origin: str) -> None:
    """Raise permission_denied where the browser says that another site sent the form."""
    said = request.headers.get("Origin")
    if (said is not None and said != origin) or request.headers.get("Sec-Fetch-Site", "none") not in _SAME:
        raise _forged("The form came from another site; nothing was done.")


def _pairs(text: str) -> list[tuple[str, str]]:
    try:
        return parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=_MOST_FIELDS)
    except ValueError:
        raise _invalid("The form is malformed or has too many fields.") from None


def _invalid(message: str) -> GatewayError:
    return GatewayError(errors_pb2.ERROR_REASON_INVALID_REQUEST, message, origin="caller")


def _forged(message: str) -> GatewayError:
    return GatewayError(errors_pb2.ERROR_REASON_PERMISSION_DENIED, message, origin="caller")
