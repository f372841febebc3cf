"""Lists that filter and page: the filters stand in the address, and so does the place in the list."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urlencode

from tokendance_facade.console.views import Field, Form
from tokendance_facade.console.visit import Visit

PAGE_SIZE = 50
_PLACE = "page"


def page_token(visit: Visit) -> str:
    """Return the place in the list that the address names; empty: its start."""
    return visit.query.get(_PLACE)


def next_href(visit: Visit, token: str) -> str:
    """Return the address of the next page, with the filters of this one; empty where there is none."""
    return f"{visit.exchange.path}?{urlencode([*_filters(visit), (_PLACE, token)])}" if token else ""


def first_href(visit: Visit) -> str:
    """Return the address of the first page; empty where this is it."""
    if not visit.query.has(_PLACE):
        return ""
    filters = urlencode(_filters(visit))
    return f"{visit.exchange.path}?{filters}" if filters else visit.exchange.path


def with_filters(visit: Visit, path: str) -> str:
    """Return another path with the filters of this page."""
    filters = urlencode(_filters(visit))
    return f"{path}?{filters}" if filters else path


def filters(visit: Visit, fields: Sequence[Field]) -> Form:
    """Return the form that filters a list."""
    return Form(visit.exchange.path, fields, "Show", method="get")


def number(text: str) -> int:
    """Return the number of an enum's value that a filter names; 0 for what is none."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 9 else 0


def _filters(visit: Visit) -> list[tuple[str, str]]:
    return [(name, value) for name, value in visit.query.items() if name not in (_PLACE, "done") and value]
