"""Providers and models of the platform: their credentials go in and never come out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from urllib.parse import quote

from google.protobuf import json_format
from google.protobuf.field_mask_pb2 import FieldMask

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import errors_pb2, status_service_pb2
from tokendance.gateway.v1 import models_service_pb2 as pb
from tokendance_facade.console import words
from tokendance_facade.console.pages.paging import PAGE_SIZE, first_href, next_href, page_token
from tokendance_facade.console.routes import nothing_there
from tokendance_facade.console.views import Action, Actions, Block, Cell, Field, Form, Notice, Table, View
from tokendance_facade.console.visit import PLATFORM, Visit
from tokendance_facade.console.words import VISIBILITY

_PROVIDERS = "/console/providers"
_MODELS = "/console/models"
_PROVIDER_TRAIL = [(_PROVIDERS, "Providers")]
_MODEL_TRAIL = [(_MODELS, "Models")]
_CIRCUITS = {1: "operational", 2: "major_outage", 3: "degraded"}
# Set by the gateway, or written by fields of their own.
_NOT_AS_JSON = ("etag", "read_only")


async def list_providers(visit: Visit) -> View:
    """Show the providers."""
    request = pb.ListProvidersRequest(page_size=PAGE_SIZE, page_token=page_token(visit))
    found = await visit.call(visit.stubs.models.ListProviders, request)
    rows = [
        [
            Cell(words.id_of(one.name), href=_provider_href(visit, one), hint=one.public_label),
            Cell(one.kind),
            Cell(one.base_url or words.NOTHING, kind="mono"),
            Cell("there" if one.has_credential else "none", kind="badge" if one.has_credential else "warn"),
            Cell("settings file" if one.read_only else "catalogue"),
        ]
        for one in found.providers
    ]
    table = Table(
        "", ["Provider", "Kind", "Address", "Credential", "Written in"], rows, "There is no provider yet.", "",
        next_href(visit, found.next_page_token), first_href(visit),
    )  # fmt: skip
    new = [Actions([Action("New provider", f"{_PROVIDERS}/new", "primary")])] if visit.is_any(PLATFORM) else []
    return View("Providers", [*new, table], "Upstreams of the gateway. Credentials are write-only.")


def _provider_href(visit: Visit, provider: pb.Provider) -> str:
    if provider.read_only or not visit.is_any(PLATFORM):
        return ""
    return f"{_PROVIDERS}/change?name={quote(words.id_of(provider.name), safe='')}"


def _provider_fields(provider: pb.Provider, *, new: bool) -> list[Field]:
    kept = (
        "There is one; leave this empty to keep it."
        if provider.has_credential
        else "It is sealed, and never shown again."
    )
    return [
        *([Field("name", "Name", required=True, longest=60, hint="Small letters, digits and hyphens.")] if new else []),
        Field("public_label", "Label that callers may see", value=provider.public_label, longest=100),
        Field("kind", "Wire format", value=provider.kind or "openai", required=True, longest=32,
              hint="Such as openai, anthropic, gemini, azure or demo."),
        Field("base_url", "Address", value=provider.base_url, longest=2048,
              hint="Another address drops the credential that was for the old one."),
        Field("credential", "Credential", "password", longest=8192, hint=kept),
        Field("credential_reference", "Or where it is", value=provider.credential_reference, longest=512,
              hint="env:TOKENDANCE_PROVIDER_… or file:… below the secrets directory."),
    ]  # fmt: skip


async def ask_new_provider(visit: Visit) -> View:
    """Ask what a new provider is."""
    visit.require_fresh()
    path = visit.exchange.path
    form = Form(path, _provider_fields(pb.Provider(), new=True), "Make it", visit.csrf(path), cancel=_PROVIDERS)
    return View("New provider", [form], trail=_PROVIDER_TRAIL)


def _provider(visit: Visit, name: str) -> pb.Provider:
    form = visit.form
    return pb.Provider(
        name=f"providers/{name}",
        public_label=form.get("public_label"),
        kind=form.get("kind"),
        base_url=form.get("base_url"),
        credential_reference=form.get("credential_reference"),
        credential=form.get("credential"),
        etag=form.get("etag"),
    )


async def new_provider(visit: Visit) -> str:
    """Make a provider."""
    visit.require_fresh()
    name = visit.form.get("name")
    provider = _provider(visit, name)
    provider.etag = ""
    await visit.call(visit.stubs.models.CreateProvider, pb.CreateProviderRequest(provider=provider))
    return _PROVIDERS


async def ask_provider(visit: Visit) -> View:
    """Show a provider to be changed or deleted."""
    visit.require_fresh()
    name = visit.query.get("name") or visit.form.get("name")
    request = pb.GetProviderRequest(name=f"providers/{name}")
    provider = (await visit.call(visit.stubs.models.GetProvider, request)).provider
    path = f"{_PROVIDERS}/change"
    form = Form(
        path, _provider_fields(provider, new=False), "Save", visit.csrf(path), cancel=_PROVIDERS,
        hidden=[("name", name), ("etag", provider.etag)], second=("delete", "Delete the provider"),
    )  # fmt: skip
    return View(name, [form], "What is saved counts on every node within a second.", _PROVIDER_TRAIL)


async def change_provider(visit: Visit) -> str | View:
    """Change or delete a provider."""
    visit.require_fresh()
    form = visit.form
    name = form.get("name")
    path = f"{_PROVIDERS}/change"
    if form.get("do") == "delete":
        sure = Form(
            path, [], "Delete the provider", visit.csrf(path), danger=True, cancel=_PROVIDERS,
            hidden=[("do", "delete-now"), ("name", name), ("etag", form.get("etag"))],
        )  # fmt: skip
        told = Notice("Its credential is gone then. A provider that routes name cannot be deleted.", "warn")
        return View(f"Delete {name}?", [told, sure], trail=_PROVIDER_TRAIL)
    if form.get("do") == "delete-now":
        gone = pb.DeleteProviderRequest(name=f"providers/{name}", etag=form.get("etag"))
        await visit.call(visit.stubs.models.DeleteProvider, gone)
        return _PROVIDERS
    paths = ["public_label", "kind", "base_url", "credential_reference"]
    if form.has("credential"):
        paths.append("credential")
    request = pb.UpdateProviderRequest(provider=_provider(visit, name), update_mask=FieldMask(paths=paths))
    await visit.call(visit.stubs.models.UpdateProvider, request)
    return _PROVIDERS


async def list_models(visit: Visit) -> View:
    """Show models with their routes and how those fare."""
    request = pb.ListModelConfigsRequest(page_size=PAGE_SIZE, page_token=page_token(visit))
    found = await visit.call(visit.stubs.models.ListModelConfigs, request)
    health = await visit.try_call(
        visit.stubs.status.ListRouteHealth, status_service_pb2.ListRouteHealthRequest(page_size=1000)
    )
    by_route = {} if health is None else {(one.model, one.provider): one for one in health.route_health}
    rows = []
    for one in found.model_configs:
        editable = visit.is_any(PLATFORM) and not one.read_only
        href = f"{_MODELS}/change?name={quote(one.model.id, safe='')}" if editable else ""
        routes = one.routes or [None]
        for place, route in enumerate(routes):
            model = Cell(one.model.id, href=href, hint=", ".join(one.model.aliases)) if not place else Cell("″")
            rows.append(
                [
                    model,
                    Cell(words.word(VISIBILITY, one.visibility) or "internal"),
                    Cell(words.NOTHING)
                    if route is None
                    else Cell(words.id_of(route.provider), hint=route.upstream_model),
                    Cell(words.NOTHING)
                    if route is None
                    else Cell(f"priority {route.priority}, weight {route.weight or 1}"),
                    _health(by_route.get((one.model.id, route.provider)) if route is not None else None),
                ]
            )
    table = Table(
        "", ["Model", "Seen by", "Route", "Order", "Health"], rows, "There is no model yet.", "",
        next_href(visit, found.next_page_token), first_href(visit),
    )  # fmt: skip
    blocks: list[Block] = []
    if visit.is_any(PLATFORM):
        blocks.append(Actions([Action("New model", f"{_MODELS}/new", "primary")]))
    if health is None:
        blocks.append(Notice("How routes fare is not known now.", "warn"))
    return View("Models and routes", [*blocks, table], "Lower priorities are tried first; weights share within one.")


def _health(one: status_service_pb2.RouteHealth | None) -> Cell:
    if one is None:
        return Cell("not known", kind="state", state="unknown")
    text = words.word(status_service_pb2.CircuitState, one.circuit).replace("_", " ") or "not known"
    shown = {"closed": "in use", "open": "passed over", "half open": "being tried"}.get(text, text)
    told = f"{one.recent_failures:,} of {one.recent_calls:,} failed in the last minute"
    if one.credential_rejected:
        told = "Its credential was refused."
    return Cell(shown, kind="state", state=_CIRCUITS.get(one.circuit, "unknown"), hint=one.reason or told)


async def ask_new_model(visit: Visit) -> View:
    """Ask what a new model is, as JSON."""
    example = pb.ModelConfig(
        model=pb.Model(id="your-model", display_name="Your model", capabilities=[pb.MODEL_CAPABILITY_COMPLETIONS]),
        routes=[pb.Route(provider="providers/your-provider", upstream_model="their-name", weight=1)],
        visibility=pb.MODEL_VISIBILITY_PUBLIC,
    )
    return _model_form(visit, "New model", example, submit="Make it")


async def new_model(visit: Visit) -> str:
    """Make a model."""
    request = pb.CreateModelRequest(model_config=_config(visit))
    await visit.call(visit.stubs.models.CreateModel, request)
    return _MODELS


async def ask_model(visit: Visit) -> View:
    """Show a model to be changed or deleted."""
    config = await _find(visit, visit.query.get("name") or visit.form.get("name"))
    hidden = [("name", config.model.id), ("etag", config.etag)]
    return _model_form(
        visit, config.model.id, config, submit="Save", hidden=hidden, second=("delete", "Delete the model")
    )


async def change_model(visit: Visit) -> str | View:
    """Change or delete a model."""
    form = visit.form
    name, path = form.get("name"), f"{_MODELS}/change"
    if form.get("do") == "delete":
        sure = Form(
            path, [], "Delete the model", visit.csrf(path), danger=True, cancel=_MODELS,
            hidden=[("do", "delete-now"), ("name", name), ("etag", form.get("etag"))],
        )  # fmt: skip
        told = Notice("Calls for it are refused from then on; those that run go on to their end.", "warn")
        return View(f"Delete {name}?", [told, sure], trail=_MODEL_TRAIL)
    if form.get("do") == "delete-now":
        gone = pb.DeleteModelRequest(name=f"models/{name}", etag=form.get("etag"))
        await visit.call(visit.stubs.models.DeleteModel, gone)
        return _MODELS
    config = _config(visit)
    config.model.name = f"models/{name}"
    config.etag = form.get("etag")
    paths = ["model", "routes", "visibility", "organizations", "fallbacks"]
    request = pb.UpdateModelRequest(model_config=config, update_mask=FieldMask(paths=paths))
    await visit.call(visit.stubs.models.UpdateModel, request)
    return _MODELS


def _model_form(
    visit: Visit,
    title: str,
    config: pb.ModelConfig,
    *,
    submit: str,
    hidden: Sequence[tuple[str, str]] = (),
    second: tuple[str, str] | None = None,
) -> View:
    document = json_format.MessageToDict(config, preserving_proto_field_name=True)
    for name in _NOT_AS_JSON:
        document.pop(name, None)
    document.get("model", {}).pop("name", None)
    path = visit.exchange.path
    text = json.dumps(document, indent=2, ensure_ascii=False)
    field = Field("document", "The model and its routes, as JSON", "area", text, longest=10_000,
                  required=True, hint="As in the administration API: GET /admin/v1/models.")  # fmt: skip
    form = Form(path, [field], submit, visit.csrf(path), cancel=_MODELS, hidden=hidden, second=second)
    told = "What is saved counts on every node within a second, for calls that begin then."
    return View(title, [form], told, _MODEL_TRAIL)


def _config(visit: Visit) -> pb.ModelConfig:
    try:
        document = json.loads(visit.form.get("document"))
        return json_format.ParseDict(document if isinstance(document, dict) else {}, pb.ModelConfig())
    except (ValueError, json_format.ParseError, RecursionError) as exc:
        complaint = "".join(one if one.isprintable() else " " for one in str(exc))[:300]
        raise GatewayError(
            errors_pb2.ERROR_REASON_INVALID_REQUEST,
            f"The document is no model: {complaint}",
            param="document",
            origin="caller",
        ) from None


async def _find(visit: Visit, name: str) -> pb.ModelConfig:
    asked = pb.ListModelConfigsRequest(page_size=1000)
    while True:
        found = await visit.call(visit.stubs.models.ListModelConfigs, asked)
        for one in found.model_configs:
            if one.model.id == name:
                return one  # type: ignore[no-any-return] # stubs of grpc.aio are untyped
        if not found.next_page_token:
            raise nothing_there()
        asked.page_token = found.next_page_token
