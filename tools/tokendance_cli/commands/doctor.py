"""`tokendance doctor`: why calls with a key do not work, and what to do about it, over REST."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from tokendance_cli.commands.models import BaseUrl, KeyFile
from tokendance_cli.failures import printable, show_request_id
from tokendance_cli.output import Format, FormatOption, form_of, print_json

if TYPE_CHECKING:
    from tokendance_cli.checkup.finding import Finding, Spent

_WIDTH = 12


def doctor(
    context: typer.Context,
    *,
    model: Annotated[
        str,
        typer.Option(
            envvar="TOKENDANCE_MODEL", help="The model to try. [default: one of the visible]", show_default=False
        ),
    ] = "",
    skip_completion: Annotated[
        bool, typer.Option("--skip-completion", help="Call no model: costs nothing.", show_default=False)
    ] = False,
    timeout: Annotated[float, typer.Option(min=0.1, max=3600, help="The longest silence, in seconds.")] = 30,
    base_url: BaseUrl = None,
    key_file: KeyFile = None,
    form: FormatOption = None,
) -> None:
    """Check, in order, what a call needs, and say what to do where it fails. Needs nothing but a key.

    The credential's form, the base URL, the gateway, the clock, the key, its models, one completion of one token and
    one short stream: these two cost a request each. No credential is printed, and none but an API key is sent.

    Exit codes: 0 all is well, perhaps with warnings; else by the first check that failed: 1 the gateway refused the
    key, the model or the call; 2 what stands in the environment is no API key or no base URL; 3 no gateway answers.
    """
    from tokendance_cli.checkup import examine
    from tokendance_cli.checkup.finding import Spent, State, Subject
    from tokendance_cli.rest import api_key_of, base_url_of

    subject = Subject(
        base_url=base_url_of(base_url),
        credential=api_key_of(key_file),
        source="TOKENDANCE_API_KEY" if key_file is None else str(key_file),
        model=model.strip(),
        timeout_s=timeout,
    )
    as_json = form_of(context, form) is Format.JSON
    spent = Spent()
    findings: list[Finding] = []
    for finding in examine(subject, spent, skip_completion=skip_completion):
        findings.append(finding)
        if not as_json:
            _show(finding)
    failed = next((one for one in findings if one.state is State.FAILED), None)
    exit_code = failed.exit_code if failed is not None else 0
    request_id = _request_id(findings, failed)
    if as_json:
        print_json(_document(findings, spent, subject.base_url, exit_code, request_id))
    show_request_id(request_id)
    raise typer.Exit(exit_code)


def _request_id(findings: Sequence[Finding], failed: Finding | None) -> str | None:
    """Return the one that support needs: of the check that failed, else of the last call."""
    if failed is not None:
        return failed.request_id
    return next((one.request_id for one in reversed(findings) if one.request_id), None)


def _show(finding: Finding) -> None:
    mark = finding.state.upper() if finding.exit_code else finding.state
    print(f"{mark:<8} {finding.check:<{_WIDTH}} {_line(finding.told)}")
    for hint in finding.do:
        print(f"{'':<{_WIDTH + 9}} -> {_line(hint)}")
    sys.stdout.flush()


def _line(text: str) -> str:
    return " ".join(printable(text).split())


def _document(
    findings: Sequence[Finding], spent: Spent, base_url: str, exit_code: int, request_id: str | None
) -> dict[str, object]:
    return {
        "ok": exit_code == 0,
        "exit_code": exit_code,
        "base_url": base_url,
        "request_id": request_id,
        "spent": {
            "requests": spent.requests,
            "input_tokens": spent.input_tokens,
            "output_tokens": spent.output_tokens,
        },
        "checks": [
            {
                "check": one.check,
                "state": str(one.state),
                "code": one.code,
                "told": one.told,
                "do": list(one.do),
                "request_id": one.request_id,
            }
            for one in findings
        ],
    }
