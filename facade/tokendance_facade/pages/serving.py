"""Pages and files on their way out: tags of their content, what a cache may do with them, compression."""

from __future__ import annotations

import gzip
import hashlib
from functools import lru_cache

from tokendance_facade.answers import Answer, Header
from tokendance_facade.exchange import Exchange
from tokendance_facade.pages.security import PAGE_HEADERS

HTML = "text/html; charset=utf-8"
# What fits into one packet gains nothing.
_WORTH_BYTES = 1400


def etag_of(body: bytes) -> str:
    """Return the entity tag of a page."""
    return f'"{hashlib.blake2b(body, digest_size=12).hexdigest()}"'


def page_answer(
    exchange: Exchange,
    body: bytes,
    *,
    etag: str = "",
    content_type: str = HTML,
    cache: str = "no-cache",
    security: tuple[Header, ...] = PAGE_HEADERS,
    status: int = 200,
    public: bool = False,
) -> Answer:
    """Return a page, or 304 where the reader has it already.

    `cache` is the Cache-Control header: `no-cache` lets browsers keep a page and ask each time whether it is the same.
    What is `public` goes out compressed to whoever takes that: compression may tell a listener on the way of secrets,
    so that a page which can hold one is never compressed.
    """
    tag = etag or etag_of(body)
    headers = (*exchange.headers, *security, ("cache-control", cache))
    if public:
        headers += (("vary", "Accept-Encoding"),)
        if len(body) > _WORTH_BYTES and "gzip" in exchange.request.headers.get("Accept-Encoding", ""):
            body = _compressed(body)
            tag = f'{tag[:-1]}-gzip"'
            headers += (("content-encoding", "gzip"),)
    headers += (("etag", tag),)
    if status == 200 and tag in _tags(exchange.request.headers.get("If-None-Match", "")):
        return Answer(304, b"", exchange.request_id, content_type=content_type, headers=headers)
    return Answer(status, body, exchange.request_id, content_type=content_type, headers=headers)


@lru_cache(maxsize=64)
def _compressed(body: bytes) -> bytes:
    return gzip.compress(body, 6, mtime=0)


def _tags(value: str) -> frozenset[str]:
    """Return the tags of an If-None-Match header; a tag that is marked as weak counts as the same."""
    return frozenset(tag.strip().removeprefix("W/") for tag in value[:4096].split(","))
