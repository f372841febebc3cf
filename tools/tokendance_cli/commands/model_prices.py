"""`tokendance models prices`: what models cost, and what they could cost; models without a price are shown as such."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tokendance_cli.failures import USAGE, CommandError
from tokendance_cli.output import Format, FormatOption, form_of, print_json, print_rows

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tokendance import Client
    from tokendance.gateway.v1 import models_service_pb2
    from tokendance.gateway.v1 import quota_service_pb2 as pb

app = typer.Typer(
    no_args_is_help=True,
    help="Set and see what models cost. Prices are US dollars for a million tokens.",
    epilog="Calls keep the price that held when they were admitted. A model without a price is unpriced, never free.",
)

_UNPRICED = "unpriced"

DataDir = Annotated[Path | None, typer.Option("--data-dir", help="The node's data directory.", show_default=False)]


def _price(name: str, help: str) -> typer.models.OptionInfo:
    option: typer.models.OptionInfo = typer.Option(name, metavar="USD", help=help, show_default=False)
    return option


@app.command("list")
def list_prices(
    context: typer.Context,
    *,
    model: Annotated[str, typer.Option("--model", help="Only of this public model.", show_default=False)] = "",
    unpriced: Annotated[bool, typer.Option("--unpriced", help="Only models without a price now.")] = False,
    past: Annotated[bool, typer.Option("--past", help="Also prices that hold no more.")] = False,
    data_dir: DataDir = None,
    form: FormatOption = None,
) -> None:
    """List the prices of every model; those without one are there as unpriced."""
    from tokendance_cli.node_client import admin_client

    with admin_client(context, data_dir) as client:
        lists = list(_all(client, model=model, unpriced=unpriced))
    _print(
        lists, form_of(context, form), past=past, empty="Every model has a price." if unpriced else "There is no model."
    )


@app.command("set")
def set_prices(
    context: typer.Context,
    model: Annotated[str, typer.Argument(help="A public model name.")],
    *,
    prompt: Annotated[str, _price("--input", "A million prompt tokens.")] = "",
    output: Annotated[str, _price("--output", "A million answer tokens.")] = "",
    cached_input: Annotated[str, _price("--cached-input", "Prompt tokens from a cache; else as --input.")] = "",
    cache_write: Annotated[str, _price("--cache-write", "Prompt tokens put into a cache; else as --input.")] = "",
    reasoning: Annotated[str, _price("--reasoning", "Reasoning tokens; else as --output.")] = "",
    audio_input: Annotated[str, _price("--audio-input", "Audio tokens of a prompt; else as --input.")] = "",
    audio_output: Annotated[str, _price("--audio-output", "Audio tokens of an answer; else as --output.")] = "",
    image: Annotated[str, _price("--image", "Image tokens of a prompt; else as --input.")] = "",
    start: Annotated[
        str, typer.Option("--from", metavar="DATE", help="From when they hold, in UTC; left out: now.")
    ] = "",
    tier: Annotated[str, typer.Option("--tier", help="Only for this service tier.", show_default=False)] = "",
    from_prompt_tokens: Annotated[
        int, typer.Option("--from-prompt-tokens", help="Only for prompts of so many tokens and more.", min=0)
    ] = 0,
    publish: Annotated[
        bool | None, typer.Option("--publish/--keep-back", help="Whether callers see the prices.", show_default=False)
    ] = None,
    suggested: Annotated[bool, typer.Option("--suggested", help="Take what `suggest` shows for the model.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check and show it, and change nothing.")] = False,
    data_dir: DataDir = None,
    form: FormatOption = None,
) -> None:
    """Set prices of a model from now or from a date on. Its other prices stay; those of the past stay as they were."""
    from tokendance.gateway.v1 import quota_service_pb2
    from tokendance_cli.node_client import admin_client
    from tokendance_cli.prices import micros_of, time_of, with_prices

    texts = {
        "input": prompt,
        "cached_input": cached_input,
        "cache_write": cache_write,
        "output": output,
        "reasoning": reasoning,
        "audio_input": audio_input,
        "audio_output": audio_output,
        "image": image,
    }
    prices = {name: micros_of(text, f"--{name.replace('_', '-')}") for name, text in texts.items() if text}
    if not prices and publish is None and not suggested:
        raise CommandError("Nothing is to be set.", "Give --input and --output, or --suggested.", exit_code=USAGE)
    time = time_of(start)
    with admin_client(context, data_dir) as client:
        wanted = _kept(client, model)
        if suggested:
            for one in _suggestion(client, model).prices:
                wanted = with_prices(
                    wanted,
                    {getattr(one, "class"): one.micros_per_million},
                    time=time,
                    tier=one.service_tier,
                    from_prompt_tokens=one.from_prompt_tokens,
                )
        wanted = with_prices(wanted, prices, time=time, tier=tier, from_prompt_tokens=from_prompt_tokens)
        if publish is not None:
            wanted.published = publish
        request = quota_service_pb2.SetPricesRequest(price_list=wanted, validate_only=dry_run)
        changed = client.stubs.quota.SetPrices(request).price_list
    _print([changed], form_of(context, form), past=False, empty="")


@app.command("suggest")
def suggest_prices(
    context: typer.Context,
    models: Annotated[
        list[str] | None, typer.Argument(help="Public model names; none: every model without a price.")
    ] = None,
    *,
    data_dir: DataDir = None,
    form: FormatOption = None,
) -> None:
    """Show what models cost by the list that ships with the gateway. Changes nothing, and asks nobody."""
    from tokendance.gateway.v1 import quota_service_pb2
    from tokendance_cli.node_client import admin_client

    with admin_client(context, data_dir) as client:
        found = client.stubs.quota.SuggestPrices(quota_service_pb2.SuggestPricesRequest(models=models or []))
    if form_of(context, form) is Format.JSON:
        print_json(_document(found))
        return
    rows = [[one.model, *_cells(price), one.matched_name] for one in found.suggestions for price in one.prices] + [
        [name, "", "", "", "", "(not in the list)"] for name in found.unknown_models
    ]
    print_rows(
        ["model", "class", "usd per million", "prompts from", "tier", "taken from"],
        rows,
        empty="Every model has a price.",
    )


def _all(client: Client, *, model: str, unpriced: bool) -> Iterable[pb.PriceList]:
    from tokendance.gateway.v1 import quota_service_pb2

    request = quota_service_pb2.ListPricesRequest(page_size=1000, model=model, unpriced_only=unpriced)
    while True:
        page = client.stubs.quota.ListPrices(request)
        yield from page.price_lists
        request.page_token = page.next_page_token
        if not page.next_page_token:
            return


def _kept(client: Client, model: str) -> pb.PriceList:
    from tokendance.gateway.v1 import quota_service_pb2

    return next(iter(_all(client, model=model, unpriced=False)), quota_service_pb2.PriceList(model=model))


def _suggestion(client: Client, model: str) -> pb.SuggestedPrices:
    from tokendance.gateway.v1 import quota_service_pb2

    found = client.stubs.quota.SuggestPrices(quota_service_pb2.SuggestPricesRequest(models=[model]))
    if not found.suggestions:
        raise CommandError(
            f"The list that ships with the gateway has no prices for {model}.", "Set them: --input, --output."
        )
    suggestion: pb.SuggestedPrices = found.suggestions[0]
    return suggestion


def _print(lists: list[pb.PriceList], form: Format, *, past: bool, empty: str) -> None:
    from tokendance_cli.prices import NOW, PAST, states

    if form is Format.JSON:
        print_json([_document(one) for one in lists])
        return
    rows = []
    now = datetime.now(UTC)
    for one in lists:
        known = states(one.prices, now)
        seen = "yes" if one.published else "no"
        rows += [
            [one.model, *_cells(price), _from(price), state, seen]
            for price, state in zip(one.prices, known, strict=True)
            if past or state != PAST
        ]
        if NOW not in known:
            rows.append([one.model, "", _UNPRICED, "", "", "", "now", ""])
    print_rows(
        ["model", "class", "usd per million", "prompts from", "tier", "since", "holds", "published"], rows, empty=empty
    )


def _cells(price: models_service_pb2.ModelPrice) -> list[str]:
    from tokendance_cli.prices import dollars

    prompts = f"{price.from_prompt_tokens} tokens" if price.from_prompt_tokens else ""
    return [getattr(price, "class"), dollars(price.micros_per_million), prompts, price.service_tier]


def _from(price: models_service_pb2.ModelPrice) -> str:
    return f"{price.effective_time.ToDatetime(UTC):%Y-%m-%d %H:%M}" if price.HasField("effective_time") else ""


def _document(message: pb.PriceList | pb.SuggestPricesResponse) -> dict[str, object]:
    from google.protobuf.json_format import MessageToDict

    document: dict[str, object] = MessageToDict(message, preserving_proto_field_name=True)
    return document
