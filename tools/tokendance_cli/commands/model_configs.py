"""`tokendance models inspect` and `discover`: the operator's view of models, over the running node's own socket."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tokendance_cli.failures import CommandError
from tokendance_cli.output import Format, FormatOption, form_of, print_json, print_record, print_rows

if TYPE_CHECKING:
    from tokendance import Client
    from tokendance.gateway.v1 import models_service_pb2 as pb

DataDir = Annotated[Path | None, typer.Option("--data-dir", help="The node's data directory.", show_default=False)]

# What YAML reads as a text and nothing else, written as it is; anything more is quoted.
_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9._/@-]*(?::[A-Za-z0-9._/@-]+)*")
_WORDS = frozenset({"true", "false", "yes", "no", "on", "off", "null", "y", "n"})


def inspect(
    context: typer.Context,
    model: Annotated[str | None, typer.Argument(help="A model's name; without one, all are listed.")] = None,
    data_dir: DataDir = None,
    form: FormatOption = None,
) -> None:
    """Show models as administrators see them: their routes, and who sees them. `tokendance apply` changes them."""
    from tokendance_cli.node_client import admin_client

    with admin_client(context, data_dir) as client:
        found = [*_configs(client)]
    if model is not None:
        found = [one for one in found if one.model.id == model.removeprefix("models/")]
        if not found:
            raise CommandError(f"The node keeps no model {model}; `tokendance models inspect` lists them.")
    if form_of(context, form) is Format.JSON:
        documents = [_document(one) for one in found]
        print_json(documents if model is None else documents[0])
    elif model is None:
        print_rows(
            ["model", "aliases", "seen by", "routes", "kept in"],
            [
                [
                    one.model.id,
                    ", ".join(one.model.aliases),
                    _seen_by(one),
                    ", ".join(map(_route, one.routes)),
                    _home(one),
                ]
                for one in found
            ],
            empty="There is no model but the built-in demo.",
        )
    else:
        print_record(_record(found[0]))


def discover(
    context: typer.Context,
    provider: Annotated[str, typer.Argument(help="The provider to ask.")],
    *,
    everything: Annotated[
        bool, typer.Option("--all", help="Also those that a route of the node leads to already.")
    ] = False,
    data_dir: DataDir = None,
    form: FormatOption = None,
) -> None:
    """Ask a provider which models it has, and write what `tokendance apply -f` takes: edit it, and apply it."""
    from tokendance.gateway.v1 import models_service_pb2 as pb
    from tokendance_cli.node_client import admin_client

    name = provider.removeprefix("providers/")
    with admin_client(context, data_dir) as client:
        asked = client.stubs.models.DiscoverModels(pb.DiscoverModelsRequest(provider=f"providers/{name}"))
        configs = [*_configs(client)]
    served = {route.upstream_model for one in configs for route in one.routes if route.provider == f"providers/{name}"}
    if form_of(context, form) is Format.JSON:
        print_json([{"upstream_model": one, "served": one in served} for one in asked.upstream_models])
        return
    taken = {name for one in configs for name in (one.model.id, *one.model.aliases)}
    wanted = [one for one in asked.upstream_models if everything or one not in served]
    print("\n".join(_declared(name, wanted, len(asked.upstream_models), taken)))


def _declared(provider: str, wanted: Sequence[str], count: int, taken: set[str]) -> Iterator[str]:
    """The lines of a gateway file for these models of a provider; names that the node has get the provider's before."""
    yield f"# {count} models of the provider {provider}; {len(wanted)} of them are listed here."
    if not wanted:
        yield "models: []"
        return
    yield "# Keep what you want, say what it is, and bring it about with `tokendance apply -f FILE`."
    yield "models:"
    for upstream_model in wanted:
        name = f"{provider}/{upstream_model}" if upstream_model in taken else upstream_model
        yield f"  - name: {_scalar(name)}"
        if "embed" in upstream_model.lower():
            yield "    capabilities: [embeddings] # by its name"
        yield "    routes:"
        yield f"      - provider: {provider}"
        yield f"        upstream_model: {_scalar(upstream_model)}"


def _scalar(text: str) -> str:
    plain = _PLAIN.fullmatch(text) and text.lower() not in _WORDS
    return text if plain else json.dumps(text, ensure_ascii=False)


def _configs(client: Client) -> Iterator[pb.ModelConfig]:
    from tokendance.gateway.v1 import models_service_pb2 as pb

    request = pb.ListModelConfigsRequest(page_size=1000)
    while True:
        page = client.stubs.models.ListModelConfigs(request)
        yield from page.model_configs
        request.page_token = page.next_page_token
        if not page.next_page_token:
            return


def _record(one: pb.ModelConfig) -> list[tuple[str, str]]:
    from tokendance.gateway.v1 import models_service_pb2 as pb

    model = one.model
    capabilities = [pb.ModelCapability.Name(number).removeprefix("MODEL_CAPABILITY_") for number in model.capabilities]
    return [
        ("model", model.id),
        ("aliases", ", ".join(model.aliases)),
        ("name", model.display_name),
        ("description", model.description),
        ("context window", str(model.context_window) if model.HasField("context_window") else ""),
        ("output cap", str(model.max_output_tokens) if model.HasField("max_output_tokens") else ""),
        ("capabilities", ", ".join(capabilities).lower()),
        ("parameters", ", ".join(model.supported_parameters)),
        ("availability", model.availability_note),
        ("gone from", model.deprecate_time.ToJsonString() if model.HasField("deprecate_time") else ""),
        ("successor", model.successor),
        ("seen by", _seen_by(one)),
        *[(f"route {number}", _long_route(route)) for number, route in enumerate(one.routes, 1)],
        *[(f"fallback {number}", fallback.model) for number, fallback in enumerate(one.fallbacks, 1)],
        ("kept in", _home(one)),
        ("etag", one.etag),
    ]


def _route(route: pb.Route) -> str:
    return f"{route.provider.removeprefix('providers/')}/{route.upstream_model}"


def _long_route(route: pb.Route) -> str:
    parts = [_route(route), f"priority {route.priority}", f"weight {route.weight or 1}", *route.tags]
    if route.default_parameters_json:
        parts.append(f"default {route.default_parameters_json}")
    if route.forced_parameters_json:
        parts.append(f"forced {route.forced_parameters_json}")
    return ", ".join(parts)


def _seen_by(one: pb.ModelConfig) -> str:
    if one.organizations:
        return ", ".join(one.organizations)
    from tokendance.gateway.v1 import models_service_pb2 as pb

    return "everybody" if one.visibility == pb.MODEL_VISIBILITY_PUBLIC else "every key"


def _home(one: pb.ModelConfig) -> str:
    return "settings file" if one.read_only else "database"


def _document(one: pb.ModelConfig) -> dict[str, object]:
    from google.protobuf.json_format import MessageToDict

    return MessageToDict(one, preserving_proto_field_name=True)
