"""Templates to bytes: Jinja2 with autoescape, undefined names are mistakes, and each template is read once."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

from tokendance_facade.answers import Answer, Header
from tokendance_facade.exchange import Exchange
from tokendance_facade.pages.assets import Assets
from tokendance_facade.pages.security import PAGE_HEADERS

HTML = "text/html; charset=utf-8"


class Renderer:
    """Renders templates of `templates` folders; a package that comes earlier wins.

    Every template sees `asset(name)` and what `shared` holds: at least `brand`, `home` (where the brand leads) and
    `navigation` (pairs of path and label), which the base template needs.
    """

    def __init__(
        self, assets: Assets, shared: Mapping[str, Any], packages: Sequence[str] = ("tokendance_facade.pages",)
    ) -> None:
        self._environment = Environment(
            loader=ChoiceLoader([PackageLoader(package) for package in packages]),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
            cache_size=-1,
        )
        self._environment.globals.update(shared)
        self._environment.globals["asset"] = assets.url

    @property
    def environment(self) -> Environment:
        """The environment, for filters of a site's own."""
        return self._environment

    def render(self, template: str, current: str, **values: Any) -> bytes:
        """Return a page. `current` is the path of the navigation entry that it belongs to."""
        return self._environment.get_template(template).render(current=current, **values).encode()


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
) -> Answer:
    """Return a page, or 304 where the reader has it already.

    `cache` is the Cache-Control header: `no-cache` lets browsers keep a page and ask each time whether it is the same.
    """
    tag = etag or etag_of(body)
    headers = (*exchange.headers, *security, ("cache-control", cache), ("etag", tag))
    if status == 200 and tag in _tags(exchange.request.headers.get("If-None-Match", "")):
        return Answer(304, b"", exchange.request_id, content_type=content_type, headers=headers)
    return Answer(status, body, exchange.request_id, content_type=content_type, headers=headers)


def _tags(value: str) -> frozenset[str]:
    """Return the tags of an If-None-Match header; a tag that is marked as weak counts as the same."""
    return frozenset(tag.strip().removeprefix("W/") for tag in value[:4096].split(","))
