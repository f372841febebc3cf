"""Reasoning as the Messages API asks for it: adaptive with an effort, or on older models a budget of tokens."""

from __future__ import annotations

from typing import Any

from tokendance.gateway.v1 import completion_pb2 as pb
from tokendance_server.providers.anthropic import capabilities as can
from tokendance_server.providers.anthropic.content import goes_back

Json = dict[str, Any]

LEAST_BUDGET = 1024
_EFFORTS = {"minimal": "low", "low": "low", "medium": "medium", "high": "high", "xhigh": "xhigh", "max": "max"}
_BUDGETS = {"minimal": 1024, "low": 2048, "medium": 8192, "high": 16_384, "xhigh": 32_768, "max": 65_536}
_FORCING = (pb.TOOL_CHOICE_MODE_REQUIRED, pb.TOOL_CHOICE_MODE_TOOL)


def write_thinking(request: pb.CompletionRequest, body: Json, *, own: bool, capabilities: frozenset[str]) -> None:
    """Put `thinking` and the effort of `output_config` into the body, whose cap on output is known."""
    reasoning = request.reasoning
    if own:
        _write_own(request, body)
        return
    if reasoning.effort == "none" and can.NO_THINKING not in capabilities:
        body["thinking"] = {"type": "disabled"}
        return
    if why_dropped(request, capabilities) is not None or not wants_thinking(reasoning):
        return
    if can.THINKING_BUDGET in capabilities:
        budget = reasoning.max_tokens or _BUDGETS.get(reasoning.effort, _BUDGETS["medium"])
        body["thinking"] = {"type": "enabled", "budget_tokens": _below(budget, body["max_tokens"])}
        return
    thinking: Json = {"type": "adaptive"}
    if reasoning.summary:
        thinking["display"] = "summarized"
    body["thinking"] = thinking
    effort = _EFFORTS.get(reasoning.effort)
    if effort is not None:
        body["output_config"] = {"effort": effort}


def wants_thinking(reasoning: pb.Reasoning) -> bool:
    """Tell whether reasoning is asked for."""
    return bool(reasoning.effort not in ("", "none") or reasoning.adaptive or reasoning.HasField("max_tokens"))


def why_dropped(request: pb.CompletionRequest, capabilities: frozenset[str]) -> str | None:
    """Return why a request of another dialect goes without the reasoning that it asks for; None where it has it."""
    if not wants_thinking(request.reasoning):
        return None
    if can.NO_THINKING in capabilities:
        return "This model is not asked for reasoning."
    if request.tools and request.tool_choice.mode in _FORCING:
        return "This model does not reason where it must call a tool."
    if can.THINKING_BUDGET in capabilities:
        cap = request.max_output_tokens if request.HasField("max_output_tokens") else LEAST_BUDGET * 4
        if cap <= LEAST_BUDGET:
            return f"This model reasons only where the output cap is above {LEAST_BUDGET:,} tokens."
        if _calls_unsigned(request):
            return "This model reasons on after a tool's result only where its earlier reasoning comes back with it."
    return None


def takes_sampling(request: pb.CompletionRequest, capabilities: frozenset[str]) -> bool:
    """Tell whether temperature, top_p and top_k of another dialect can be sent: not beside reasoning."""
    if can.NO_SAMPLING in capabilities:
        return False
    return not wants_thinking(request.reasoning) or why_dropped(request, capabilities) is not None


def loses_thinking(request: pb.CompletionRequest) -> bool:
    """Tell whether a request of this dialect asks to reason on from calls whose reasoning came from another model.

    That reasoning cannot be sent back, and without it the API refuses a budget.
    """
    return request.reasoning.HasField("max_tokens") and _calls_unsigned(request, had_reasoning=True)


def _write_own(request: pb.CompletionRequest, body: Json) -> None:
    reasoning = request.reasoning
    if reasoning.HasField("max_tokens"):
        budget = _below(reasoning.max_tokens, body["max_tokens"])
        if budget >= min(LEAST_BUDGET, reasoning.max_tokens) and not loses_thinking(request):
            body["thinking"] = {"type": "enabled", "budget_tokens": budget}
    elif reasoning.adaptive:
        body["thinking"] = {"type": "adaptive"}
    elif reasoning.effort == "none":
        body["thinking"] = {"type": "disabled"}
        return
    if reasoning.effort:
        body["output_config"] = {"effort": reasoning.effort}


def _below(budget: int, cap: int) -> int:
    """A budget must be less than the cap on output, which the gateway may have lowered."""
    return budget if budget < cap else cap - 1


def _calls_unsigned(request: pb.CompletionRequest, *, had_reasoning: bool = False) -> bool:
    """Whether the turn that goes on now began with calls whose reasoning is not there any more.

    With `had_reasoning`, only where some stands there that cannot be sent back.
    """
    for message in reversed(request.messages):
        if message.role == pb.ROLE_ASSISTANT:
            calls = any(part.HasField("tool_call") for part in message.parts)
            thoughts = [goes_back(part.reasoning) for part in message.parts if part.HasField("reasoning")]
            return calls and not any(thoughts) and (bool(thoughts) or not had_reasoning)
        if message.role != pb.ROLE_TOOL and not any(part.HasField("tool_result") for part in message.parts):
            return False
    return False
