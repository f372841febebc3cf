"""`tokendance requests`: what became of one request, and what support may know of it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from tokendance_cli.commands.models import BaseUrl, KeyFile
from tokendance_cli.failures import USAGE, CommandError
from tokendance_cli.output import Format, FormatOption, form_of, print_json, print_record, print_rows

app = typer.Typer(
    no_args_is_help=True,
    help="Look up a request by the id that came with its answer.",
    epilog="With TOKENDANCE_API_KEY: a request of that key; else any that an administrator may see.",
)


@app.callback()
def requests() -> None:
    """Keep `show` a word of its own, though there is no other."""


@app.command("show")
def show(
    context: typer.Context,
    *,
    request_id: Annotated[
        str,
        typer.Argument(
            metavar="[ID]", help="The request id, such as req_….", envvar="TOKENDANCE_REQUEST_ID", show_default=False
        ),
    ] = "",
    support: Annotated[
        bool, typer.Option("--support", help="Print just what may be sent to support, ready to paste.")
    ] = False,
    base_url: BaseUrl = None,
    key_file: KeyFile = None,
    data_dir: Annotated[
        Path | None, typer.Option("--data-dir", help="The node's data directory.", show_default=False)
    ] = None,
    form: FormatOption = None,
) -> None:
    """Show one request: how it ended, its attempts, tokens, cost and limits. No prompt and no key is in it."""
    from tokendance_cli import usage_view as view

    if not request_id:
        raise CommandError(
            "Which request? Name its id, or set TOKENDANCE_REQUEST_ID.",
            "Every answer has it in the header x-request-id, every error in its body.",
            exit_code=USAGE,
        )
    by_key = view.holds_key(context, base_url, key_file, data_dir)
    found = view.request_of(
        context, data_dir, by_key=by_key, base_url=base_url, key_file=key_file, name=request_id.strip()
    )
    if support:
        print(_for_support(found))
    elif form_of(context, form) is Format.JSON:
        print_json(found)
    else:
        _print(found)


def _print(found: dict[str, Any]) -> None:
    from tokendance_cli.usage_view import money

    usage, cost = found["usage"], found["cost_micros"]
    estimated = " (estimated)" if found["estimated"] else ""
    print_record(
        [
            *_pairs(found),
            ("key", found["key"] or ""),
            ("tokens", f"{usage['input_tokens']} in, {usage['output_tokens']} out{estimated}"),
            ("cost", "unpriced" if cost is None else f"{money(cost)} USD{estimated}"),
            ("took", _took(found)),
            ("address", found.get("address", "")),
            ("node", found.get("node", "")),
            *((f"warning: {one['field']}", one["why"]) for one in found["warnings"]),
        ]
    )
    if found["attempts"]:
        print()
        print_rows(
            ["attempt", "provider", "model", "outcome", "code", "status", "first byte ms", "total ms", "upstream id"],
            [_attempt(one) for one in found["attempts"]],
            empty="",
        )
    if found["limits"]:
        print()
        print_rows(
            ["limit of", "metric", "window", "limit", "spent", "held", "asked", "refused", "starts anew"],
            [_limit(one) for one in found["limits"]],
            empty="",
        )


def _pairs(found: dict[str, Any]) -> list[tuple[str, str]]:
    client = found["client"]
    return [
        ("request id", found["id"]),
        ("time", found["started_at"]),
        ("outcome", found["outcome"] or "running"),
        ("status", str(found["status"] or "")),
        ("code", found["code"] or ""),
        ("message", found["message"] or ""),
        ("model asked", found["requested_model"]),
        ("model served", found["served_model"] or ""),
        ("stream", "yes" if found["stream"] else "no"),
        ("host", found["host"] or ""),
        ("call", found["route"]),
        ("credential", (found["credential"] or "none").replace("_", " ")),
        ("client", " ".join((client["kind"], client["version"])).strip() if client else ""),
    ]


def _took(found: dict[str, Any]) -> str:
    parts = [
        f"{words} {found[name]:.0f} ms"
        for name, words in (("first_byte_ms", "first byte after"), ("total_ms", "all"), ("added_ms", "the gateway"))
        if found[name] is not None
    ]
    return ", ".join(parts)


def _for_support(found: dict[str, Any]) -> str:
    """Return what support asks for and nothing else: no prompt, no key, no user, no metadata, no address."""
    lines = [f"{name.capitalize()}: {' '.join(value.split())}" for name, value in _pairs(found) if value]
    for one in found["attempts"]:
        code = f" {one['code']}" if one["code"] else ""
        lines.append(f"Attempt {one['number']}: {one['outcome'] or 'running'}{code}")
    took = _took(found)
    return "\n".join(["TokenDance Gateway", *lines, *([f"Took: {took}"] if took else []), "Task: "])


def _attempt(one: dict[str, Any]) -> list[str]:
    return [
        str(one["number"]),
        one.get("provider_name") or one["provider"],
        one.get("upstream_model") or one["model"],
        one["outcome"] or "running",
        one["code"] or "-",
        str(one["upstream_status"] or "-"),
        *("-" if one[name] is None else f"{one[name]:.0f}" for name in ("first_byte_ms", "total_ms")),
        one.get("upstream_request_id") or "-",
    ]


def _limit(one: dict[str, Any]) -> list[str]:
    amounts = [str(one[name]) for name in ("limit", "spent", "held", "asked")]
    return [
        one["subject"],
        one["metric"] + (f" of {one['model']}" if one["model"] else "") + (" (soft)" if one["soft"] else ""),
        one["window"] or "-",
        *amounts,
        "yes" if one["refused"] else "no",
        one["reset_at"] or "-",
    ]
