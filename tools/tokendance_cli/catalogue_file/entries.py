"""Providers and models in one plain form, from a file and from a node alike, so that the two can be compared."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from tokendance.gateway.v1 import models_service_pb2 as pb
from tokendance_cli.catalogue_file.positions import Path
from tokendance_cli.catalogue_file.schema import Declared, DeclaredModel, DeclaredProvider

if TYPE_CHECKING:
    from google.protobuf.duration_pb2 import Duration

    from tokendance import Client

Kind = Literal["provider", "model", "organization", "team", "member", "policy"]

_CAPABILITIES = {name: f"MODEL_CAPABILITY_{name.upper()}" for name in (
    "completions", "embeddings", "tools", "structured_output", "reasoning")}  # fmt: skip
_CAPABILITY_NAMES = {pb.ModelCapability.Value(value): name for name, value in _CAPABILITIES.items()}

# The paths of the update mask, where they are not the names that stand in the file.
PATHS: dict[str, dict[str, str]] = {
    "provider": {
        "credential": "credential_reference",
        "connect_timeout_s": "connect_timeout",
        "first_byte_timeout_s": "first_byte_timeout",
        "idle_timeout_s": "idle_timeout",
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
        )
    },
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
        etag=entry.etag,
    )
    for name in ("connect_timeout", "first_byte_timeout", "idle_timeout"):
        getattr(message, name).FromMicroseconds(round(fields[f"{name}_s"] * 1_000_000))
    return message


def model_message(entry: Entry) -> pb.ModelConfig:
    """Return a model as the gateway takes it."""
    fields = entry.fields
    return pb.ModelConfig(
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
        ),
        routes=[
            pb.Route(
                provider=f"providers/{route['provider']}",
                upstream_model=route["upstream_model"],
                weight=route["weight"],
                priority=route["priority"],
            )
            for route in fields["routes"]
        ],
        visibility=pb.ModelVisibility.Value(f"MODEL_VISIBILITY_{fields['visibility'].upper()}"),
        etag=entry.etag,
    )


def _declared_provider(one: DeclaredProvider, number: int) -> Entry:
    fields = one.model_dump(mode="json", exclude={"name"})
    for name in ("connect_timeout_s", "first_byte_timeout_s", "idle_timeout_s"):
        fields[name] = _plain(round(fields[name] * 1_000_000) / 1_000_000)
    return Entry("provider", one.name, fields, path=("providers", number))


def _declared_model(one: DeclaredModel, number: int) -> Entry:
    fields = one.model_dump(mode="json", exclude={"name"})
    fields["capabilities"] = list(dict.fromkeys(fields["capabilities"]))
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
        "visibility": "public" if one.visibility == pb.MODEL_VISIBILITY_PUBLIC else "internal",
    }
    return Entry("model", model.id, fields, one.etag, one.read_only)


def _seconds(duration: Duration) -> float:
    return _plain(duration.ToMicroseconds() / 1_000_000)


def _plain(seconds: float) -> float:
    return int(seconds) if seconds == int(seconds) else seconds
