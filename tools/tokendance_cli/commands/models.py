"""`tokendance models`: the models that a key may call, over REST; what models cost, and what operators see of them."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import typer

from tokendance_cli.commands import model_configs, model_prices
from tokendance_cli.failures import CommandError, show_request_id
from tokendance_cli.output import Format, FormatOption, form_of, print_json, print_record, print_rows

app = typer.Typer(
    no_args_is_help=True, help="The models that your key may call, what models cost, and what operators see of them."
)
app.add_typer(model_prices.app, name="prices")
app.command("inspect")(model_configs.inspect)
app.command("discover")(model_configs.discover)

BaseUrl = Annotated[
    str | None,
    typer.Option("--base-url", help="The gateway. Wins over TOKENDANCE_BASE_URL.", show_default=False),
]
KeyFile = Annotated[
    Path | None,
    typer.Option(
        "--key-file",
        help="A file that holds the API key. Wins over TOKENDANCE_API_KEY.",
        show_default=False,
    ),
]


@app.command("list")
def list_models(
    context: typer.Context, base_url: BaseUrl = None, key_file: KeyFile = None, form: FormatOption = None
) -> None:
    """List the models that your key may call."""
    from tokendance_cli.rest import holder

    answer = holder(base_url, key_file).get("/models")
    models = _objects(answer.document, answer.request_id)
    if form_of(context, form) is Format.JSON:
        print_json(models)
    else:
        print_rows(
            ["model", "name", "context window", "serves"],
            [
                [_value(name, one.get(name)) for name in ("id", "display_name", "context_window", "capabilities")]
                for one in models
            ],
            empty="This key may call no model.",
        )
    show_request_id(answer.request_id)


@app.command("show")
def show_model(
    context: typer.Context,
    model: Annotated[str, typer.Argument(help="A model's name or alias.")],
    base_url: BaseUrl = None,
    key_file: KeyFile = None,
    form: FormatOption = None,
) -> None:
    """Show one model."""
    from tokendance_cli.rest import holder

    answer = holder(base_url, key_file).get(f"/models/{quote(model, safe='')}")
    if form_of(context, form) is Format.JSON:
        print_json(answer.document)
    else:
        print_record([(name, _value(name, value)) for name, value in answer.document.items() if name != "object"])
    show_request_id(answer.request_id)


def _objects(document: Any, request_id: str | None) -> list[dict[str, Any]]:
    data = document.get("data") if isinstance(document, dict) else None
    if not isinstance(data, list) or not all(isinstance(one, dict) for one in data):
        raise CommandError("The answer is no list of models.", request_id=request_id)
    return data


def _value(name: str, value: Any) -> str:
    if name == "created":
        return _day(value)
    if isinstance(value, list):
        return ", ".join(str(one) for one in value)
    return "" if value is None else str(value)


def _day(created: Any) -> str:
    if not isinstance(created, int) or created <= 0:
        return ""
    return datetime.fromtimestamp(created, UTC).date().isoformat()
