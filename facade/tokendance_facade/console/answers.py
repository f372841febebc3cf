"""Answers of the console that are no pages: other places to go to, and files to keep."""

from __future__ import annotations

from tokendance_facade.answers import Answer, Header
from tokendance_facade.exchange import Exchange
from tokendance_facade.pages.rendering import HTML
from tokendance_facade.pages.security import PAGE_HEADERS

NO_STORE: Header = ("cache-control", "no-store")


def redirect(exchange: Exchange, location: str, *headers: Header) -> Answer:
    """Return an answer that leads to another page with GET."""
    more = (("location", location), NO_STORE, *PAGE_HEADERS, *headers)
    return Answer(303, b"", exchange.request_id, content_type=HTML, headers=more)


def download(exchange: Exchange, name: str, content_type: str, body: bytes) -> Answer:
    """Return a file to keep; `name` is of our own making."""
    headers = (*PAGE_HEADERS, NO_STORE, ("content-disposition", f'attachment; filename="{name}"'))
    return Answer(200, body, exchange.request_id, content_type=content_type, headers=headers)
