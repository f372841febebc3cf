"""How servers and models of the Gemini dialect differ, as names that a provider's configuration refers to.

What is usually needed:

    Gemini 2.5                  none
    Gemini 3 and later          thinking_levels call_signatures
    Gemini 3 Pro                thinking_levels call_signatures no_minimal_level
    older models, no thinking   no_thinking
    Vertex AI                   bearer no_call_ids url_media, and what the model needs
"""

from __future__ import annotations

from collections.abc import Iterable

BEARER = "bearer"
THINKING_LEVELS = "thinking_levels"
NO_MINIMAL_LEVEL = "no_minimal_level"
XHIGH_LEVEL = "xhigh_level"
NO_THINKING = "no_thinking"
CALL_SIGNATURES = "call_signatures"
NO_CALL_IDS = "no_call_ids"
URL_MEDIA = "url_media"

CAPABILITIES: dict[str, str] = {
    BEARER: "The credential is sent as a bearer token; otherwise as x-goog-api-key.",
    THINKING_LEVELS: "An effort is sent as a level of thinking; otherwise as a budget of tokens.",
    NO_MINIMAL_LEVEL: "The least level of thinking is low.",
    XHIGH_LEVEL: "The efforts `xhigh` and `max` have a level of their own; otherwise they are sent as high.",
    NO_THINKING: "The model does not think: an effort is left out.",
    CALL_SIGNATURES: (
        "Calls of earlier turns must carry their signature: one that was lost on the way is replaced by the mark that "
        "skips the check."
    ),
    NO_CALL_IDS: "Calls and their results are sent without ids and matched by their order.",
    URL_MEDIA: "Addresses of pictures and documents are sent, for the server to fetch; otherwise they are refused.",
}
"""Each capability and what it changes. A plain server of the dialect has none."""


def check_capabilities(names: Iterable[str]) -> frozenset[str]:
    """Return the names as a set; raises ValueError for one that the table does not have."""
    wanted = frozenset(names)
    unknown = sorted(wanted - CAPABILITIES.keys())
    if unknown:
        raise ValueError(f"unknown capabilities: {', '.join(unknown)}; known are {', '.join(sorted(CAPABILITIES))}")
    return wanted
