"""GET /models: the ids that an OpenAI-compatible server lists. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from tokendance_server.providers import json_text
from tokendance_server.providers.openai.answer import text_of, unreadable

_MOST = 10_000


def read_models(body: bytes) -> Sequence[str]:
    """Return the ids, sorted, each once, 10,000 at most. Raises provider_error where the answer is no list of models.

    Some servers answer with the list itself instead of an object around it.
    """
    try:
        document = json_text.read_lenient(body)
    except json_text.UNREADABLE:
        raise unreadable() from None
    listed = document.get("data") if isinstance(document, dict) else document
    if not isinstance(listed, list):
        raise unreadable()
    ids = {text_of(one.get("id")) for one in listed if isinstance(one, dict)}
    return sorted(ids - {""})[:_MOST]
