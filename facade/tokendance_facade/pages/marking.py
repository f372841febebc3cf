"""Plain texts of ours as HTML: what stands between backticks is code, and codes of errors lead to their rows."""

from __future__ import annotations

import re
from functools import cache

from markupsafe import Markup, escape

from tokendance.errors import table


def ticks(text: str) -> Markup:
    """Return a text whose words between backticks are code."""
    parts = str(text).split("`")
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if place % 2 else escape(part) for place, part in enumerate(parts)
    )


def codes(text: str) -> Markup:
    """Return what `ticks` does, with links from the codes of errors that no other word looks like."""
    return Markup(_codes().sub(r'<a href="/errors#\1">\1</a>', str(ticks(text))))  # noqa: S704 - escaped by ticks


@cache
def _codes() -> re.Pattern[str]:
    known = sorted((spec.code for _, spec in table() if "_" in spec.code), key=len, reverse=True)
    return re.compile(rf"\b({'|'.join(known)})\b")
