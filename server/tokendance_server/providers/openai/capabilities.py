"""How servers of the OpenAI dialect differ, as names: the one table that a provider's configuration refers to.

What well-known servers need:

    OpenAI      max_completion_tokens developer_role allowed_tools responses
    Azure       max_completion_tokens developer_role
    Groq        max_completion_tokens no_logprobs no_n
    xAI         max_completion_tokens
    Mistral     random_seed core_fields no_stream_options
    DeepSeek    reasoning_content text_content
    Moonshot    reasoning_content no_required
    Fireworks   required_is_any
    Ollama      reasoning no_required no_n
    vLLM, SGLang, llama.cpp, LM Studio, OpenRouter, Together: none

Custom tools are OpenAI's and Azure's alone; for all others `no_custom` makes functions of them, where callers have any.
"""

from __future__ import annotations

from collections.abc import Iterable

MAX_COMPLETION_TOKENS = "max_completion_tokens"
DEVELOPER_ROLE = "developer_role"
REASONING_CONTENT = "reasoning_content"
REASONING = "reasoning"
ALLOWED_TOOLS = "allowed_tools"
REQUIRED_IS_ANY = "required_is_any"
NO_REQUIRED = "no_required"
NO_STRICT = "no_strict"
NO_CUSTOM = "no_custom"
NO_N = "no_n"
NO_LOGPROBS = "no_logprobs"
NO_STREAM_OPTIONS = "no_stream_options"
RANDOM_SEED = "random_seed"
CORE_FIELDS = "core_fields"
TEXT_CONTENT = "text_content"
NO_EFFORT = "no_effort"
FLOAT_EMBEDDINGS = "float_embeddings"
RESPONSES = "responses"
RESPONSES_ONLY = "responses_only"

CAPABILITIES: dict[str, str] = {
    MAX_COMPLETION_TOKENS: "The output cap is sent as max_completion_tokens; otherwise as max_tokens.",
    DEVELOPER_ROLE: "Developer messages keep their role; otherwise they are sent as system messages.",
    REASONING_CONTENT: "Reasoning of earlier turns is sent back as reasoning_content; otherwise left out.",
    REASONING: "Reasoning of earlier turns is sent back as reasoning; otherwise left out.",
    ALLOWED_TOOLS: "A choice among some tools is sent as allowed_tools; otherwise the others are left out.",
    REQUIRED_IS_ANY: "The tool choice `required` is written `any`.",
    NO_REQUIRED: "A tool cannot be made to be called: the choices `required` and of one tool are refused.",
    NO_STRICT: "`strict` of tools is left out.",
    NO_CUSTOM: "Custom tools are sent as functions of one text, and their calls come back as custom ones.",
    NO_N: "More than one choice is refused.",
    NO_LOGPROBS: "Log probabilities are refused.",
    NO_STREAM_OPTIONS: "Usage is not asked for in streams: the server refuses the question or answers unasked.",
    RANDOM_SEED: "`seed` is written `random_seed`.",
    CORE_FIELDS: (
        "Unknown fields are refused upstream: user, metadata, service_tier, verbosity, prompt_cache_key and "
        "safety_identifier are left out."
    ),
    TEXT_CONTENT: "Contents that are only text are sent as one text, their parts joined by line feeds.",
    NO_EFFORT: "The effort of reasoning is left out: the model refuses the field.",
    FLOAT_EMBEDDINGS: "Vectors are asked for as numbers; otherwise in base64.",
    RESPONSES: "Calls that came as Responses are sent to /responses, in their own form; all others as chat.",
    RESPONSES_ONLY: "Every call is sent to /responses, for models that have no chat.",
}
"""Each capability and what it changes. A plain server of the dialect has none."""


def check_capabilities(names: Iterable[str]) -> frozenset[str]:
    """Return the names as a set; raises ValueError for one that the table does not have."""
    wanted = frozenset(names)
    unknown = sorted(wanted - CAPABILITIES.keys())
    if unknown:
        raise ValueError(f"unknown capabilities: {', '.join(unknown)}; known are {', '.join(sorted(CAPABILITIES))}")
    return wanted
