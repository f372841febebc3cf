"""How many tokens a text is likely to have, where nobody has counted: one for every four bytes of UTF-8 begun."""

from __future__ import annotations

from collections.abc import Iterable

from tokendance.gateway.v1 import completion_pb2 as pb

BYTES_PER_TOKEN = 4
MEDIA_TOKENS = 800
"""What a picture, a sound or a document counts, whatever its size."""


def tokens_of(size_bytes: int) -> int:
    """Return the estimate for a text of so many bytes of UTF-8."""
    return -(-size_bytes // BYTES_PER_TOKEN)


def size_of(text: str) -> int:
    """Return the bytes of a text in UTF-8."""
    return len(text) if text.isascii() else len(text.encode())


def estimate_input(request: pb.CompletionRequest) -> int:
    """Return the estimated prompt tokens of a request: all its texts, its tools, and its media at a flat rate."""
    size = sum(size_of(tool.name) + size_of(tool.description) + size_of(tool.parameters_json) for tool in request.tools)
    media = 0
    for message in request.messages:
        texts, more = _measure(message.parts)
        size += texts
        media += more
    return tokens_of(size) + media * MEDIA_TOKENS


def _measure(parts: Iterable[pb.Part]) -> tuple[int, int]:
    """Bytes of text and number of media in the parts."""
    size = media = 0
    for part in parts:
        kind = part.WhichOneof("content")
        if kind == "text":
            size += size_of(part.text.text)
        elif kind in ("image", "audio", "file"):
            media += 1
        elif kind == "tool_call":
            call = part.tool_call
            size += size_of(call.name) + size_of(call.arguments_json) + size_of(call.input)
        elif kind == "tool_result":
            texts, more = _measure(part.tool_result.parts)
            size += texts
            media += more
        elif kind == "reasoning":
            size += size_of(part.reasoning.text)
        elif kind == "refusal":
            size += size_of(part.refusal.text)
        elif kind == "native":
            size += size_of(part.native.json)
    return size, media
