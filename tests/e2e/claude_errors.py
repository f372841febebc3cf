"""What Claude Code does with each error of the one table: `python -m tests.e2e.claude_errors` writes the page.

A real facade stands before a server that fails as it is told, so that every row of the table can be met. Claude Code is
told to repeat once, and not ten times as by default, so that the table takes a minute.
"""

from __future__ import annotations

import asyncio
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tests.e2e.claude_code import ROOT, Run, run_claude
from tests.facade.rig import KEY, Rig, Step, hello_events, open_rig

from tokendance.errors import GatewayError, spec_of
from tokendance.gateway.v1 import completion_pb2 as pb
from tokendance.gateway.v1 import errors_pb2
from tokendance.gateway.v1.errors_pb2 import ErrorReason
from tokendance_facade.errors import shape_of

PAGE = ROOT / "docs" / "clients" / "agents-and-errors-claude-code.md"

_HEAD = """\
# Claude Code and the errors of the gateway

What `claude -p` does with each error that a call of `/v1/messages` can end in, and what the person reads. A test runs
Claude Code against a gateway that fails as it is told, writes this table, and fails where a later version behaves
otherwise: do not edit it by hand (`.venv/bin/python -m tests.e2e.claude_errors`).

"Requests" counts what reached the gateway with `CLAUDE_CODE_MAX_RETRIES=1`. One request means that Claude Code takes
the error as final; two mean that it repeats, by default up to ten times and for minutes.

| error | the gateway answers | requests | exit code | what the person reads |
|---|---|---|---|---|
"""
_TAIL = """
- Whatever a retry cannot cure goes out with `x-should-retry: false`, which Claude Code obeys: without it a bad key
  would cost two minutes. What it can cure goes out with `Retry-After`.
- After a 400 Claude Code leaves out its betas and the display of reasoning, one after the other, and asks again each
  time: six requests within a second, and then the person reads our words.
- A model that is not found is asked for once more, without streaming, and the person reads Claude Code's own words.
- An error midway, after the head, is an `error` event: Claude Code asks again, and at last without streaming.
"""

# Met by other APIs, or by nothing that Claude Code sends.
_ELSEWHERE = frozenset(
    {
        "already_exists", "api_key_not_accepted", "cancelled", "failed_precondition", "idempotency_conflict",
        "idempotency_in_progress", "identity_provider_unavailable", "invalid_id_token", "method_not_allowed",
        "not_found", "unsupported_media_type", "version_conflict", "websocket_not_served",
    }
)  # fmt: skip
REASONS = [
    reason
    for reason in ErrorReason.values()
    if reason != errors_pb2.ERROR_REASON_UNSPECIFIED and spec_of(reason).code not in _ELSEWHERE
]
_SAID = {errors_pb2.ERROR_REASON_CREDENTIALS_CONFLICT: "Two different credentials came with the request; send one."}
SURFACE = errors_pb2.SURFACE_MESSAGES


@dataclass(frozen=True)
class Case:
    """One way to end: what it is called, what the gateway answers, and what the server does."""

    what: str
    answer: str
    failure: GatewayError | None = None
    steps: tuple[Step, ...] = ()


def failure_of(reason: ErrorReason.ValueType) -> GatewayError:
    """An error as the gateway makes it: what to check first stands for messages that differ from call to call."""
    message = _SAID.get(reason) or spec_of(reason).check_first.replace("`", "")
    return GatewayError(reason, message, retry_after_s=1)


def _case_of(reason: ErrorReason.ValueType) -> Case:
    shape = shape_of(reason, SURFACE)
    return Case(f"`{shape.header_code}`", f"{shape.status} `{shape.type}`", failure_of(reason))


def _midway(reason: ErrorReason.ValueType) -> Case:
    shape = shape_of(reason, SURFACE)
    events = hello_events()[:2]
    return Case(f"`{shape.header_code}`, midway", f"`error` event, `{shape.type}`", None, (*events, failure_of(reason)))


def _ended(reason: pb.FinishReason.ValueType, stop_reason: str) -> Case:
    events = hello_events()
    events[3] = pb.CompletionEvent(choice_finished=pb.ChoiceFinished(finish_reason=reason))
    return Case("none", f"`stop_reason`: `{stop_reason}`", None, tuple(events))


CASES = (
    *map(_case_of, REASONS),
    _midway(errors_pb2.ERROR_REASON_STREAM_INTERRUPTED),
    _midway(errors_pb2.ERROR_REASON_PROVIDER_UNAVAILABLE),
    _midway(errors_pb2.ERROR_REASON_GATEWAY_OVERLOADED),
    _ended(pb.FINISH_REASON_LENGTH, "max_tokens"),
    _ended(pb.FINISH_REASON_CONTENT_FILTER, "refusal"),
)


async def row_of(case: Case, rig: Rig, folder: Path) -> str:
    """Run Claude Code into an error; return the line of the table that tells what it did."""
    rig.upstream.failure = case.failure
    rig.upstream.steps = list(case.steps)
    rig.upstream.requests.clear()
    run = await asyncio.to_thread(
        run_claude, folder, rig.facade.http_url, KEY, "Hello", "--model", "m", CLAUDE_CODE_MAX_RETRIES="1"
    )
    count = len(rig.upstream.requests)
    return f"| {case.what} | {case.answer} | {count} | {run.code} | {read_by_person(run)} |"


def read_by_person(run: Run) -> str:
    """What a run said, without what differs from run to run."""
    text = re.sub(r"req_[0-9a-z]{26}", "req_…", run.text)
    text = re.sub(r"127\.0\.0\.1(:\d+)?", "gateway.example.com", text)
    return re.sub(r"\s+", " ", text).replace("|", "\\|").strip()


async def rows_of(cases: tuple[Case, ...]) -> list[str]:
    """The lines of these cases, in order."""
    async with open_rig() as rig:
        rows = []
        for case in cases:
            with tempfile.TemporaryDirectory() as place:
                rows.append(await row_of(case, rig, Path(place)))
        return rows


def page_of(rows: list[str]) -> str:
    """The page around its lines."""
    return _HEAD + "\n".join(rows) + "\n" + _TAIL


def main() -> None:
    """Write the page."""
    PAGE.write_text(page_of(asyncio.run(rows_of(CASES))))


if __name__ == "__main__":
    main()
