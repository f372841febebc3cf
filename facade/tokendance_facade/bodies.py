"""Request bodies: their type checked, their size capped, their slowness bounded."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import lru_cache
from typing import TypeVar

from aiohttp import ClientPayloadError
from aiohttp.web import BaseRequest, RequestPayloadError

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import errors_pb2
from tokendance.gateway.v1.errors_pb2 import ErrorReason
from tokendance.json_weight import MAX_WEIGHT, NEVER_HEAVY_BYTES, Weight, most
from tokendance_facade.answers import write
from tokendance_facade.dialects.documents import Document, read_object

Call = TypeVar("Call")

_LARGE_BYTES = 1024 * 1024
# Weighed at once, so that nobody else waits for longer than a few milliseconds.
_PIECE_BYTES = 64 * 1024
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class BodyReader:
    """Reads JSON bodies of at most `max_bytes`. Times in seconds: `idle_s` between pieces, `total_s` altogether."""

    def __init__(self, *, max_bytes: int, idle_s: float, total_s: float) -> None:
        self._max_bytes = max_bytes
        self._idle_s = idle_s
        self._total_s = total_s

    async def decoded(self, request: BaseRequest, decode: Callable[[Document, int], Call]) -> Call:
        """Return what `decode` makes of the document in a body of so many bytes.

        Raises what it raises, what `read` raises, and invalid_json.
        """
        body = await self.read(request)
        size = len(body)
        document = read_object(body)
        del body
        if size <= _LARGE_BYTES:
            return decode(document, size)
        # Each step takes as long again; in between others have their turn.
        await asyncio.sleep(0)
        call = decode(document, size)
        await asyncio.sleep(0)
        return call

    async def read(self, request: BaseRequest) -> bytes:
        """Return the body.

        Raises unsupported_media_type, request_too_large, and invalid_request where it stalls, or holds more JSON
        values than anybody parses without keeping others waiting.
        """
        headers = request.headers
        if "Content-Encoding" in headers:
            raise _error(errors_pb2.ERROR_REASON_UNSUPPORTED_MEDIA_TYPE, "Send the body without Content-Encoding.")
        if not _is_json(headers.get("Content-Type", "")):
            raise _error(
                errors_pb2.ERROR_REASON_UNSUPPORTED_MEDIA_TYPE, "Send `Content-Type: application/json`, in UTF-8."
            )
        length = headers.get("Content-Length")
        if length is not None:
            if int(length) > self._max_bytes:
                raise self._too_large()
        elif headers.get("Transfer-Encoding", "chunked").lower() != "chunked":
            raise _error(errors_pb2.ERROR_REASON_INVALID_REQUEST, "Send no other Transfer-Encoding than `chunked`.")
        if "Expect" in headers:
            if headers["Expect"].lower() != "100-continue":
                raise _error(errors_pb2.ERROR_REASON_INVALID_REQUEST, "Send no other Expect than `100-continue`.")
            write(request, _CONTINUE)
        content = request.content
        try:
            if content.is_eof():
                body = await content.readany()
                if len(body) > self._max_bytes:
                    raise self._too_large()
                pieces = [body]
            else:
                async with asyncio.timeout(self._total_s):
                    pieces = await self._read_pieces(request)
        except TimeoutError:
            raise _error(
                errors_pb2.ERROR_REASON_INVALID_REQUEST, "The body did not arrive in time; send it faster."
            ) from None
        except (RequestPayloadError, ClientPayloadError):
            raise _error(
                errors_pb2.ERROR_REASON_INVALID_REQUEST, "The body is cut or its framing is malformed."
            ) from None
        body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        if len(body) > NEVER_HEAVY_BYTES and await is_heavy(body):
            raise _error(
                errors_pb2.ERROR_REASON_INVALID_REQUEST,
                f"The body holds too many JSON values; at most {MAX_WEIGHT:,} are served, where each text counts one "
                "more, and each name, array and object two.",
            )
        return body

    async def _read_pieces(self, request: BaseRequest) -> list[bytes]:
        pieces: list[bytes] = []
        size = 0
        while True:
            async with asyncio.timeout(self._idle_s):
                piece = await request.content.readany()
            if not piece:
                return pieces
            size += len(piece)
            if size > self._max_bytes:
                raise self._too_large()
            pieces.append(piece)

    def _too_large(self) -> GatewayError:
        return GatewayError(
            errors_pb2.ERROR_REASON_REQUEST_TOO_LARGE,
            f"The body is larger than {self._max_bytes} bytes; send less, or pass large files by reference.",
            metadata={"max_bytes": str(self._max_bytes)},
            origin="caller",
        )


async def is_heavy(body: bytes) -> bool:
    """Tell whether JSON is more than may be parsed; others run in between."""
    highest = 0
    for start in range(0, len(body), _PIECE_BYTES):
        highest += most(body[start : start + _PIECE_BYTES])
        if highest > MAX_WEIGHT:
            break
        await asyncio.sleep(0)
    else:
        return False
    weight = Weight()
    for start in range(0, len(body), _PIECE_BYTES):
        weight.add(body[start : start + _PIECE_BYTES])
        if weight.total > MAX_WEIGHT:
            return True
        await asyncio.sleep(0)
    return False


@lru_cache(maxsize=256)
def _is_json(content_type: str) -> bool:
    kind, _, parameters = content_type.lower().partition(";")
    kind = kind.strip()
    if kind != "application/json" and not (kind.startswith("application/") and kind.endswith("+json")):
        return False
    for parameter in parameters.split(";"):
        name, _, value = parameter.partition("=")
        if name.strip() == "charset" and value.strip().strip('"') not in {"utf-8", "utf8", "us-ascii"}:
            return False
    return True


def _error(reason: ErrorReason.ValueType, message: str) -> GatewayError:
    return GatewayError(reason, message, origin="caller")
