"""Stylesheets, scripts and pictures, read once and served from memory under names that change with their content."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from importlib.resources import files
from pathlib import PurePosixPath
from typing import NamedTuple

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import errors_pb2
from tokendance_facade.answers import Reply
from tokendance_facade.exchange import Exchange
from tokendance_facade.pages.security import FILE_HEADERS
from tokendance_facade.pages.serving import page_answer

PREFIX = "/assets/"
_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_FOREVER = "public, max-age=31536000, immutable"


class _Asset(NamedTuple):
    content_type: str
    body: bytes


class Assets:
    """The files of the `static` folders of some packages; of two files of one name the later package's is served."""

    def __init__(self, packages: Iterable[str] = ("tokendance_facade.pages",)) -> None:
        self._served: dict[str, _Asset] = {}
        self._urls: dict[str, str] = {}
        for package in packages:
            for file in files(package).joinpath("static").iterdir():
                content_type = _TYPES.get(PurePosixPath(file.name).suffix)
                if content_type is not None:
                    self._add(file.name, _Asset(content_type, file.read_bytes()))

    def _add(self, name: str, asset: _Asset) -> None:
        path = PurePosixPath(name)
        served = f"{path.stem}-{hashlib.sha256(asset.body).hexdigest()[:12]}{path.suffix}"
        self._served[served] = asset
        self._urls[name] = PREFIX + served

    def url(self, name: str) -> str:
        """Return the path of a file, such as `/assets/site-0123456789ab.css`. Raises KeyError for an unknown one."""
        return self._urls[name]

    def body(self, name: str) -> bytes:
        """Return the content of a file by its own name. Raises KeyError for an unknown one."""
        return self._served[self._urls[name].removeprefix(PREFIX)].body

    @property
    def paths(self) -> tuple[str, ...]:
        """The path of every file."""
        return tuple(self._urls.values())

    async def serve(self, exchange: Exchange) -> Reply:
        """Answer `GET /assets/*`. Raises not_found."""
        asset = self._served.get(exchange.tail)
        if asset is None:
            raise GatewayError(errors_pb2.ERROR_REASON_NOT_FOUND, "There is no such file.", origin="caller")
        return page_answer(
            exchange,
            asset.body,
            content_type=asset.content_type,
            cache=_FOREVER,
            security=FILE_HEADERS,
            public=True,
        )
