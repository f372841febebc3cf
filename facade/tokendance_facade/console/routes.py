"""The pages by path: each says who may see it, and everybody else finds nothing there."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import errors_pb2
from tokendance_facade.answers import Answer
from tokendance_facade.console.views import View
from tokendance_facade.console.visit import Visit

Outcome = View | Answer | str
"""A page to show, a whole answer, or the path of a page to go to."""
Handler = Callable[[Visit], Awaitable[Outcome]]

# Ids of ours; decoded paths are not needed for them, so none is decoded.
_PARTS = {
    "organization": r"org_[0-9a-z]{26}",
    "id": r"[a-z]{2,5}_[0-9a-z]{26}",
}
_PLACE = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True, slots=True)
class Page:
    """One path. `kinds` are who may see it; `post` is what a form there does, None where there is none."""

    path: str
    kinds: frozenset[Any]
    get: Handler
    post: Handler | None = None


class Pages:
    """Finds the page of a path."""

    def __init__(self, pages: Iterable[Page]) -> None:
        self.all = tuple(pages)
        self._patterns = [(re.compile(_pattern(page.path)), page) for page in self.all]

    def find(self, path: str) -> tuple[Page, Mapping[str, str]]:
        """Return the page of a raw path, and the parts that its pattern names. Raises not_found."""
        for pattern, page in self._patterns:
            match = pattern.fullmatch(path)
            if match is not None:
                return page, match.groupdict()
        raise nothing_there()


def nothing_there() -> GatewayError:
    """Return what somebody sees who may not see a page, or where there is none."""
    return GatewayError(errors_pb2.ERROR_REASON_NOT_FOUND, "There is no such page in the console.", origin="caller")


def _pattern(path: str) -> str:
    parts = []
    end = 0
    for place in _PLACE.finditer(path):
        parts.append(re.escape(path[end : place.start()]))
        parts.append(f"(?P<{place[1]}>{_PARTS[place[1]]})")
        end = place.end()
    return "".join(parts) + re.escape(path[end:])
