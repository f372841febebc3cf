"""Marked secrets, and the search for them in whatever a run leaves behind, in every form that text takes on its way."""

from __future__ import annotations

import base64
import html
import json
import urllib.parse
from collections.abc import Iterator, Mapping

# Of a text inside base64, the first and the last characters depend on its neighbours.
_ALIGNMENTS = 3


def forms(secret: str) -> Iterator[tuple[str, bytes]]:
    """Yield each form in which a secret could stand somewhere, with its name."""
    raw = secret.encode()
    yield "plain", raw
    yield "utf-16", secret.encode("utf-16-le")
    yield "hexadecimal", raw.hex().encode()
    yield "url", urllib.parse.quote(secret, safe="").encode()
    yield "path", urllib.parse.quote(secret).encode()
    yield "form", urllib.parse.quote_plus(secret).encode()
    yield "json", json.dumps(secret)[1:-1].encode()
    yield "json in json", json.dumps(json.dumps(secret)[1:-1])[1:-1].encode()
    yield "html", html.escape(secret).encode()
    for shift in range(_ALIGNMENTS):
        whole = base64.b64encode(b"\0" * shift + raw)
        # What does not depend on what stands before and behind.
        inner = whole[(shift * 8 + 5) // 6 + 1 : len(whole) - 4]
        yield f"base64, {shift}", inner
        yield f"base64 for urls, {shift}", inner.replace(b"+", b"-").replace(b"/", b"_")


def find(secrets: Mapping[str, str], artefacts: Mapping[str, bytes]) -> list[str]:
    """Return where each named secret stands, in which form: `NAME, FORM, in ARTEFACT`."""
    return [
        f"{name}, {form}, in {artefact}"
        for artefact, content in artefacts.items()
        for name, secret in secrets.items()
        for form, needle in forms(secret)
        if needle in content
    ]
