"""How models and servers of the Messages API differ, as names that a provider's configuration refers to.

They steer what is mapped from other dialects; a request of this same dialect is written as it came. What models need:

    Claude 5 and later          system_turns no_sampling
    Claude 4.6                  none
    Claude 4.5 and earlier      thinking_budget
    servers without reasoning   no_thinking no_output_format
    OpenRouter, most proxies    bearer
"""

from __future__ import annotations

from collections.abc import Iterable

BEARER = "bearer"
THINKING_BUDGET = "thinking_budget"
NO_THINKING = "no_thinking"
NO_SAMPLING = "no_sampling"
NO_OUTPUT_FORMAT = "no_output_format"
SYSTEM_TURNS = "system_turns"

CAPABILITIES: dict[str, str] = {
    BEARER: "The credential is sent as `Authorization: Bearer`; otherwise as `x-api-key`.",
    THINKING_BUDGET: "Reasoning is asked for as a budget of tokens; otherwise as adaptive, with an effort.",
    NO_THINKING: "Reasoning is not asked for.",
    NO_SAMPLING: "temperature, top_p and top_k are left out: the model refuses them.",
    NO_OUTPUT_FORMAT: "Structured output is refused.",
    SYSTEM_TURNS: (
        "Instructions amid the conversation stay in their place, as turns of the system; otherwise they join the next "
        "user turn."
    ),
}
"""Each capability and what it changes."""


def check_capabilities(names: Iterable[str]) -> frozenset[str]:
    """Return the names as a set; raises ValueError for one that the table does not have."""
    wanted = frozenset(names)
    unknown = sorted(wanted - CAPABILITIES.keys())
    if unknown:
        raise ValueError(f"unknown capabilities: {', '.join(unknown)}; known are {', '.join(sorted(CAPABILITIES))}")
    return wanted
