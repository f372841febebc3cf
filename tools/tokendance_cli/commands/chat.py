"""`tokendance chat`: one answer of a model, streamed to the terminal over REST."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from typing import Annotated, Any

import typer

from tokendance_cli.commands.models import BaseUrl, KeyFile
from tokendance_cli.failures import INTERRUPTED, USAGE, CommandError, printable, show_request_id
from tokendance_cli.output import Format, FormatOption, form_of, print_json


def chat(
    context: typer.Context,
    *,
    model: Annotated[
        str, typer.Argument(help="A model's name or alias.", envvar="TOKENDANCE_MODEL", show_default=False)
    ] = "",
    prompt: Annotated[
        str | None, typer.Argument(help="What to say. Left out: standard input is read.", show_default=False)
    ] = None,
    prompt_option: Annotated[
        str | None,
        typer.Option("--prompt", "-p", help="The same, where TOKENDANCE_MODEL names the model.", show_default=False),
    ] = None,
    system: Annotated[str, typer.Option(help="Instructions for the model.", show_default=False)] = "",
    max_tokens: Annotated[
        int | None, typer.Option(min=1, help="The longest answer, in tokens.", show_default=False)
    ] = None,
    base_url: BaseUrl = None,
    key_file: KeyFile = None,
    form: FormatOption = None,
) -> None:
    """Ask a model and print its answer as it comes. Ctrl-C ends it.

    The request id goes to standard error, so that the answer can be piped.
    """
    from tokendance_cli.rest import holder

    if not model:
        raise CommandError(
            "Which model? Name one, or set TOKENDANCE_MODEL.",
            "`tokendance models list` shows those that your key may call.",
            exit_code=USAGE,
        )
    if prompt is not None and prompt_option is not None:
        raise CommandError("Give the prompt once: as an argument or with --prompt.", exit_code=USAGE)
    caller = holder(base_url, key_file)
    body = _request(model, _prompt(prompt if prompt is not None else prompt_option), system, max_tokens)
    answer = _Answer(live=form_of(context, form) is Format.TABLE)
    request_id: str | None = None
    try:
        with caller.stream("/chat/completions", body) as (events, request_id):
            answer.read(events, request_id)
    except KeyboardInterrupt:
        answer.end_line()
        show_request_id(request_id)
        raise typer.Exit(INTERRUPTED) from None
    except CommandError as error:
        answer.end_line()
        error.request_id = error.request_id or request_id
        raise
    answer.end_line()
    if not answer.live:
        print_json({**answer.document, "content": "".join(answer.pieces), "request_id": request_id})
    if answer.document.get("finish_reason") == "length":
        print("The answer was cut at its longest; see --max-tokens.", file=sys.stderr)
    show_request_id(request_id)


class _Answer:
    """What has come so far; printed at once where `live`."""

    def __init__(self, *, live: bool) -> None:
        self.live = live
        self.pieces: list[str] = []
        self.document: dict[str, Any] = {"model": None, "finish_reason": None, "usage": None}
        # A program that reads gets every character; a terminal gets none that could steer it.
        self._clean = printable if sys.stdout.isatty() else str

    def read(self, events: Iterator[str], request_id: str | None) -> None:
        """Take in the whole stream; raises CommandError where it fails or is cut."""
        for data in events:
            if data == "[DONE]":
                return
            self._take(data, request_id)
        raise CommandError("The answer was cut off before its end.", request_id=request_id)

    def end_line(self) -> None:
        """End the line that the answer left open."""
        if self.live and self.pieces:
            print(flush=True)
            self.pieces.clear()

    def _take(self, data: str, request_id: str | None) -> None:
        from tokendance_cli.rest import refusal

        try:
            chunk = json.loads(data)
        except ValueError as error:
            raise CommandError("The answer is garbled.", request_id=request_id) from error
        if "error" in chunk:
            raise refusal(chunk["error"], None, request_id)
        self.document["model"] = chunk.get("model") or self.document["model"]
        self.document["usage"] = chunk.get("usage") or self.document["usage"]
        for choice in chunk.get("choices") or ():
            delta = choice.get("delta") or {}
            self._say(delta.get("content") or delta.get("refusal") or "")
            self.document["finish_reason"] = choice.get("finish_reason") or self.document["finish_reason"]

    def _say(self, text: str) -> None:
        if not text:
            return
        self.pieces.append(text)
        if self.live:
            sys.stdout.write(self._clean(text))
            sys.stdout.flush()


def _request(model: str, prompt: str, system: str, max_tokens: int | None) -> dict[str, Any]:
    messages = [{"role": "user", "content": prompt}]
    if system:
        messages.insert(0, {"role": "system", "content": system})
    body: dict[str, Any] = {
        "model": model,
        "messages": messages,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    if max_tokens is not None:
        body["max_completion_tokens"] = max_tokens
    return body


def _prompt(given: str | None) -> str:
    if given is None:
        if sys.stdin.isatty():
            end = "Ctrl-Z and Enter" if os.name == "nt" else "Ctrl-D"
            print(f"Type what to say; {end} on an empty line sends it.", file=sys.stderr)
        given = sys.stdin.read()
    if not given.strip():
        raise CommandError("There is nothing to say: the prompt is empty.", exit_code=USAGE)
    return given
