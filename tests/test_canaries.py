"""The search for secrets finds them; a search that finds nothing would show nothing."""

from __future__ import annotations

import base64
import json
import urllib.parse

import pytest
from tests.canaries import find

SECRET = 'tdk-Canary "+/=<&>é? of a test'
LEAKS = {
    "log line": f'{{"event": "request", "detail": {json.dumps(SECRET)}}}',
    "log line in a log line": json.dumps({"message": json.dumps({"key": SECRET})}),
    "plain": f"GET /x?key={SECRET}",
    "address": f"/v1/models?key={urllib.parse.quote(SECRET)}",
    "form": urllib.parse.urlencode({"key": SECRET}),
    "basic": base64.b64encode(f"user:{SECRET}".encode()).decode(),
    "token": base64.urlsafe_b64encode(f"x{SECRET}y".encode()).decode(),
    "hexadecimal": SECRET.encode().hex(),
}


@pytest.mark.parametrize("leak", LEAKS)
def test_a_leak_is_found_in_every_form(leak: str) -> None:
    """With the name of what leaked, and where."""
    found = find({"key": SECRET, "other": "not there at all"}, {"log": f"before\n{LEAKS[leak]}\nafter".encode()})
    assert found
    assert all(one.startswith("key, ") and one.endswith(" in log") for one in found)


def test_what_is_clean_is_clean() -> None:
    """Also where parts of a secret stand."""
    assert find({"key": SECRET}, {"log": SECRET[:12].encode(), "empty": b""}) == []
