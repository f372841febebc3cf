"""Providers and models in one plain form, from a file and from a node alike, so that the two can be compared."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from tokendance.gateway.v1 import completion_pb2
from tokendance.gateway.v1 import models_service_pb2 as pb
from tokendance_cli.catalogue_file.positions import Path
from tokendance_cli.catalogue_file.schema import Declared, DeclaredModel, DeclaredProvider

if TYPE_CHECKING:
    from google.protobuf.duration_pb2 import Duration

    from tokendance import Client

Kind = Literal["provider", "model", "organization", "team", "member", "policy"]

_CAPABILITIES = {name: f"MODEL_CAPABILITY_{name.upper()}" for name in (
    "completions", "embeddings", "tools", "structured_output", "reasoning")}  # fmt: skip
_MODALITIES = {name: completion_pb2.Modality.Value(f"MODALITY_{name.upper()}") for name in ("text", "audio", "image")}
_MODALITY_NAMES = {number: name for name, number in _MODALITIES.items()}
_CAPS = ("max_concurrent_requests", "max_requests_per_minute", "max_tokens_per_minute")
_CAPABILITY_NAMES = {pb.ModelCapability.Value(value): name for name, value in _CAPABILITIES.items()}

# The paths of the update mask, where they are not the names that stand in the file.
PATHS: dict[str, dict[str, str]] = {
    "provider": {
        "credential": "credential_reference",
        "connect_timeout_s": "connect_timeout",
        "first_byte_timeout_s": "first_byte_timeout",
        "idle_timeout_s": "idle_timeout",
        "more_credentials": "more_credential_references",
        "client_key": "client_key_reference",
    },
    "model": {
        name: f"model.{name}"
        for name in (
            "aliases",
            "display_name",
            "description",
            "context_window",
            "max_output_tokens",
            "capabilities",
            "supported_parameters",
            "availability_note",
            "owned_by",
            "input_modalities",
            "output_modalities",
            "successor",
        )
    }
    | {"deprecation_date": "model.deprecate_time"},
}


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing that a file may declare: its fields by the names that they have there.

    `path` is its place in the file, `resource` its resource name on the node where that is not made of its name.
    """

    kind: Kind
    name: str
    fields: dict[str, Any]
    etag: str = ""
    read_only: bool = False
    path: Path = ()
    resource: str = ""

    @property
    def title(self) -> str:
        """Such as `model fast`."""
        return f"{self.kind} {self.name}"

    @property
    def is_managed(self) -> bool:
        """Tell whether --prune may delete it: organizations and policies stay, for they hold more than a file says."""
        return self.kind not in ("organization", "policy")

    @property
    def claims(self) -> frozenset[str]:
        """The names that calls may use for a model."""
        return frozenset({self.name, *self.fields.get("aliases", ())}) if self.kind == "model" else frozenset()

    @property
    def providers(self) -> list[str]:
        """The providers that a model's routes lead to, route by route."""
        return [route["provider"] for route in self.fields.get("routes", ())]


def declared_entries(declared: Declared) -> list[Entry]:
    """Return what a file declares, providers first, in its order."""
    content = declared.content
    return [
        *(_declared_provider(one, number) for number, one in enumerate(content.providers)),
        *(_declared_model(one, number) for number, one in enumerate(content.models)),
    ]


def kept_entries(client: Client) -> Iterator[Entry]:
    """Yield what a node serves, providers first. Raises GatewayError."""
    providers = pb.ListProvidersRequest(page_size=1000)
    while True:
        listed = client.stubs.models.ListProviders(providers)
        yield from map(_kept_provider, listed.providers)
        if not listed.next_page_token:
            break
        providers.page_token = listed.next_page_token
    models = pb.ListModelConfigsRequest(page_size=1000)
    while True:
        page = client.stubs.models.ListModelConfigs(models)
        yield from map(_kept_model, page.model_configs)
        if not page.next_page_token:
            break
        models.page_token = page.next_page_token


def provider_message(entry: Entry) -> pb.Provider:
    """Return a provider as the gateway takes it."""
    fields = entry.fields
    message = pb.Provider(
        name=f"providers/{entry.name}",
        kind=fields["kind"],
        base_url=fields["base_url"],
        public_label=fields["public_label"],
        credential_reference=fields["credential"],
        capabilities=fields["capabilities"],
        extra_headers=fields["extra_headers"],
        more_credential_references=fields["more_credentials"],
        proxy_url=fields["proxy_url"],
        ca_bundle_pem=fields["ca_bundle_pem"],
        client_certificate_pem=fields["client_certificate_pem"],
        client_key_reference=fields["client_key"],
        **_caps(fields),
        etag=entry.etag,
    )
    for name in ("connect_timeout", "first_byte_timeout", "idle_timeout"):
        getattr(message, name).FromMicroseconds(round(fields[f"{name}_s"] * 1_000_000))
    return message


def model_message(entry: Entry) -> pb.ModelConfig:
    """Return a model as the gateway takes it."""
    fields = entry.fields
    message = pb.ModelConfig(
        model=pb.Model(
            name=f"models/{entry.name}",
            aliases=fields["aliases"],
            display_name=fields["display_name"],
            description=fields["description"],
            context_window=fields["context_window"],
            max_output_tokens=fields["max_output_tokens"],
            capabilities=[pb.ModelCapability.Value(_CAPABILITIES[name]) for name in fields["capabilities"]],
            supported_parameters=fields["supported_parameters"],
            availability_note=fields["availability_note"],
            owned_by=fields["owned_by"],
            input_modalities=[_MODALITIES[name] for name in fields["input_modalities"]],
            output_modalities=[_MODALITIES[name] for name in fields["output_modalities"]],
            successor=fields["successor"],
        ),
        routes=map(_route_message, fields["routes"]),
        fallbacks=[pb.Fallback(model=one["model"], causes=map(_cause, one["causes"])) for one in fields["fallbacks"]],
        visibility=pb.ModelVisibility.Value(f"MODEL_VISIBILITY_{fields['visibility'].upper()}"),
        organizations=fields["organizations"],
        etag=entry.etag,
    )
    if fields["deprecation_date"]:
        message.model.deprecate_time.FromJsonString(f"{fields['deprecation_date']}T00:00:00Z")
    return message


def _route_message(route: dict[str, Any]) -> pb.Route:
    return pb.Route(
        provider=f"providers/{route['provider']}",
        upstream_model=route["upstream_model"],
        weight=route["weight"],
        priority=route["priority"],
        tags=route["tags"],
        default_parameters_json=_text(route["default_parameters"]),
        forced_parameters_json=_text(route["forced_parameters"]),
        **_caps(route),
    )


def _cause(name: str) -> pb.FallbackCause.ValueType:
    return pb.FallbackCause.Value(f"FALLBACK_CAUSE_{name.upper()}")


def _caps(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: fields[name] for name in _CAPS if fields[name] is not None}


def _text(parameters: dict[str, Any]) -> str:
    return json.dumps(parameters, ensure_ascii=False) if parameters else ""


def _declared_provider(one: DeclaredProvider, number: int) -> Entry:
    fields = one.model_dump(mode="json", exclude={"name"})
    for name in ("connect_timeout_s", "first_byte_timeout_s", "idle_timeout_s"):
        fields[name] = _plain(round(fields[name] * 1_000_000) / 1_000_000)
    return Entry("provider", one.name, fields, path=("providers", number))


def _declared_model(one: DeclaredModel, number: int) -> Entry:
    fields = one.model_dump(mode="json", exclude={"name"})
    for name in ("capabilities", "organizations", "input_modalities", "output_modalities"):
        fields[name] = list(dict.fromkeys(fields[name]))
    return Entry("model", one.name, fields, path=("models", number))


def _kept_provider(one: pb.Provider) -> Entry:
    fields = {
        "kind": one.kind,
        "base_url": one.base_url,
        "public_label": one.public_label,
        "credential": one.credential_reference,
        "capabilities": [*one.capabilities],
        "extra_headers": dict(sorted(one.extra_headers.items())),
        "connect_timeout_s": _seconds(one.connect_timeout),
        "first_byte_timeout_s": _seconds(one.first_byte_timeout),
        "idle_timeout_s": _seconds(one.idle_timeout),
        "more_credentials": [*one.more_credential_references],
        "proxy_url": one.proxy_url,
        "ca_bundle_pem": one.ca_bundle_pem,
        "client_certificate_pem": one.client_certificate_pem,
        "client_key": one.client_key_reference,
        **_kept_caps(one),
    }
    return Entry("provider", one.name.removeprefix("providers/"), fields, one.etag, one.read_only)


def _kept_model(one: pb.ModelConfig) -> Entry:
    model = one.model
    fields = {
        "aliases": [*model.aliases],
        "routes": [
            {
                "provider": route.provider.removeprefix("providers/"),
                "upstream_model": route.upstream_model,
                "weight": route.weight or 1,
                "priority": route.priority,
                "tags": [*route.tags],
                "default_parameters": json.loads(route.default_parameters_json or "{}"),
                "forced_parameters": json.loads(route.forced_parameters_json or "{}"),
                **_kept_caps(route),
            }
            for route in one.routes
        ],
        "display_name": model.display_name,
        "description": model.description,
        "context_window": model.context_window if model.HasField("context_window") else None,
        "max_output_tokens": model.max_output_tokens if model.HasField("max_output_tokens") else None,
        "capabilities": [_CAPABILITY_NAMES.get(number, str(number)) for number in model.capabilities],
        "supported_parameters": [*model.supported_parameters],
        "availability_note": model.availability_note,
        "owned_by": model.owned_by,
        "visibility": pb.ModelVisibility.Name(one.visibility).removeprefix("MODEL_VISIBILITY_").lower(),
        "organizations": [*one.organizations],
        "input_modalities": [_MODALITY_NAMES.get(number, str(number)) for number in model.input_modalities],
        # A model that only embeds gives no text, and whoever wrote it need not know.
        "output_modalities": [_MODALITY_NAMES.get(number, str(number)) for number in model.output_modalities]
        or ["text"],
        "deprecation_date": model.deprecate_time.ToDatetime().date().isoformat()
        if model.HasField("deprecate_time")
        else None,
        "successor": model.successor,
        "fallbacks": [
            {"model": fallback.model.removeprefix("models/"), "causes": [*map(_cause_name, fallback.causes)]}
            for fallback in one.fallbacks
        ],
    }
    return Entry("model", model.id, fields, one.etag, one.read_only)


def _kept_caps(one: Any) -> dict[str, Any]:
    return {name: getattr(one, name) if one.HasField(name) else None for name in _CAPS}


def _cause_name(cause: pb.FallbackCause.ValueType) -> str:
    return pb.FallbackCause.Name(cause).removeprefix("FALLBACK_CAUSE_").lower()


def _seconds(duration: Duration) -> float:
    return _plain(duration.ToMicroseconds() / 1_000_000)


def _plain(seconds: float) -> float:
    return int(seconds) if seconds == int(seconds) else seconds
