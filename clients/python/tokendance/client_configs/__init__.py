"""Configurations of clients for one gateway: the one source of the command, of the documentation and of public pages.

No configuration holds a key: each reads it from the environment.
"""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files
from typing import NamedTuple

from tokendance.client_configs.catalog import BY_NAME, CLIENTS, ClientConfig

__all__ = ["BY_NAME", "CLIENTS", "ClientConfig", "ConfigFile", "Values", "fill", "render"]

# What these would do in a file that a shell, a JSON or a TOML reader takes is not asked.
_SAFE = re.compile(r"[A-Za-z0-9._~:/@+,=\[\]%-]{1,512}")
_PLACE = re.compile(r"<<(\w+)>>")


class Values(NamedTuple):
    """The gateway and the model that a configuration is for. `base_url` ends in `/v1` and has no slash behind it."""

    base_url: str
    model: str
    grpc_target: str = "127.0.0.1:50051"

    @property
    def root_url(self) -> str:
        """The base URL without `/v1`, for clients that add it themselves."""
        return self.base_url.removesuffix("/v1")


class ConfigFile(NamedTuple):
    """One file: where it belongs (from the home directory as `~/…`, or from a project), its language and its text."""

    path: str
    language: str
    text: str


def render(client: ClientConfig, values: Values) -> list[ConfigFile]:
    """Return the files of a client for a gateway. Raises ValueError for a value that cannot stand in a file."""
    return [ConfigFile(one.path, one.language, fill(_template(one.template), values)) for one in client.files]


def fill(text: str, values: Values) -> str:
    """Return a text with the values in its places. Raises ValueError for a value that cannot stand there."""

    def value(match: re.Match[str]) -> str:
        found: str = getattr(values, match[1])
        if not _SAFE.fullmatch(found):
            raise ValueError(f"{match[1]} holds characters that cannot stand in a configuration: {found!r}")
        return found

    return _PLACE.sub(value, text)


@cache
def _template(name: str) -> str:
    return files("tokendance.client_configs").joinpath("templates", name).read_text(encoding="utf-8")
