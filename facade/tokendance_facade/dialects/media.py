"""Bytes inside JSON: base64 and data URLs."""

from __future__ import annotations

import binascii
from urllib.parse import unquote_to_bytes

from tokendance_facade.dialects.checks import invalid

MAX_PERCENT_ENCODED = 64 * 1024
"""Characters of a data URL without base64, which takes a thousand times longer to read: a drawing, not a photograph."""


def decode_base64(value: str, path: str) -> bytes:
    """Return the bytes of base64 text. Raises invalid_request."""
    try:
        return binascii.a2b_base64(value, strict_mode=True)
    except ValueError:
        raise invalid(path, f"`{path}` must be valid base64.") from None


def encode_base64(data: bytes) -> str:
    """Return bytes as base64 text without line breaks."""
    return binascii.b2a_base64(data, newline=False).decode("ascii")


def decode_data_url(url: str, path: str) -> tuple[bytes, str]:
    """Return the bytes and the media type of a data URL. Raises invalid_request."""
    head, comma, payload = url.partition(",")
    if not comma:
        raise invalid(path, f"`{path}` must be a data URL such as `data:image/png;base64,…`.")
    media_type = head[5:]
    if media_type[-7:].lower() == ";base64":
        return decode_base64(payload, path), media_type[:-7] or "text/plain"
    if len(payload) > MAX_PERCENT_ENCODED:
        raise invalid(path, f"`{path}` must be in base64 where it is longer than {MAX_PERCENT_ENCODED:,} characters.")
    return unquote_to_bytes(payload), media_type or "text/plain"


def is_data_url(url: str) -> bool:
    """Tell whether an address holds its content itself."""
    return url[:5].lower() == "data:"


def data_url(data: bytes, media_type: str) -> str:
    """Return a data URL of the bytes."""
    return f"data:{media_type or 'application/octet-stream'};base64,{encode_base64(data)}"
