"""The catalogue of a node, wired: what its settings name, what its database keeps, and the upstreams of both."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from pathlib import Path

from tokendance_server.catalogue_settings import ModelSettings, ProviderSettings, RouteSettings
from tokendance_server.domain.catalogue.editor import CatalogueEditor
from tokendance_server.domain.catalogue.entries import CatalogueStore, ModelSpec, ProviderSpec
from tokendance_server.domain.catalogue.in_force import Catalogue, SpecError
from tokendance_server.domain.catalogue.layers import DEMO, DEMO_PROVIDER, Layer, model_of
from tokendance_server.domain.catalogue.models import Caps, Fallback, ModelIndex, ProviderConfig, Route
from tokendance_server.domain.catalogue.parameters import canonical
from tokendance_server.domain.catalogue.seals import ProviderSeals
from tokendance_server.domain.changes import ChangeKind, Watcher
from tokendance_server.domain.clock import Clock
from tokendance_server.domain.egress import EgressPolicy, EgressRefusedError
from tokendance_server.domain.sealing import UnsealError
from tokendance_server.domain.upstream import Upstream
from tokendance_server.providers.kinds import KINDS, build_upstream
from tokendance_server.providers.sse import DEFAULT_EVENT_BYTES
from tokendance_server.providers.transport import Transport
from tokendance_server.references import resolve
from tokendance_server.startup import ConfigurationError, StartupError
from tokendance_server.stores.errors import StoreUnavailableError
from tokendance_server.telemetry import logger

# The fields that may be why an upstream cannot be built, each tried with those before it.
_DOUBTFUL = (
    "base_url", "capabilities", "extra_headers", "credential", "proxy_url", "ca_bundle_pem", "client_certificate_pem",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class CatalogueParts:
    """The catalogue in force, and what changes it."""

    catalogue: Catalogue
    editor: CatalogueEditor


class NodeUpstreams:
    """Makes upstreams with what this node has: its secrets, its egress policy, its connections.

    Satisfies domain.catalogue.Upstreams. `event_bytes` is the largest event of a stream.
    """

    def __init__(
        self,
        secrets_dir: Path,
        egress: EgressPolicy,
        transport: Transport,
        seals: ProviderSeals,
        event_bytes: int = DEFAULT_EVENT_BYTES,
    ) -> None:
        self._secrets_dir = secrets_dir
        self._egress = egress
        self._transport = transport
        self.seals = seals
        self._event_bytes = event_bytes

    def configure(self, name: str, spec: ProviderSpec) -> ProviderConfig:
        """Return the provider with its secret resolved. Raises SpecError."""
        config = configure(name, spec, self._secrets_dir, self._egress)
        try:
            sealed = self.seals.open(name, spec)
        except UnsealError as exc:
            raise SpecError("credential", str(exc)) from exc
        return dataclasses.replace(config, credential=sealed) if sealed else config

    def build(self, provider: ProviderConfig) -> Upstream:
        """Return its upstream. Raises SpecError."""
        try:
            for credential in provider.more_credentials:
                self._build(dataclasses.replace(provider, credential=credential))
            return self._build(provider)
        except ValueError as exc:
            raise SpecError(self._field_at_fault(provider), str(exc)) from exc

    def _build(self, provider: ProviderConfig) -> Upstream:
        return build_upstream(provider, self._transport, event_bytes=self._event_bytes)

    def _field_at_fault(self, provider: ProviderConfig) -> str:
        partial = ProviderConfig(provider.id, provider.kind)
        for field in _DOUBTFUL:
            partial = dataclasses.replace(partial, **{field: getattr(provider, field)})
            if field == "client_certificate_pem":
                partial = dataclasses.replace(partial, client_key=provider.client_key)
            try:
                self._build(partial)
            except ValueError:
                return field
        return "kind"


async def open_catalogue(
    store: CatalogueStore, settings: Layer, upstreams: NodeUpstreams, watcher: Watcher, clock: Clock
) -> CatalogueParts:
    """Read what is kept and put it in force; the watcher tells of changes. Raises StartupError."""
    catalogue = Catalogue(store, settings, upstreams, _tell)
    try:
        await catalogue.reload()
    except StoreUnavailableError as exc:
        raise StartupError(f"The catalogue cannot be read from the database: {exc}.") from exc
    for kind in (ChangeKind.PROVIDER, ChangeKind.MODEL):
        watcher.subscribe(kind, catalogue)
    return CatalogueParts(catalogue, CatalogueEditor(store, catalogue, upstreams, upstreams.seals, clock))


def configure(name: str, spec: ProviderSpec, secrets_dir: Path, egress: EgressPolicy) -> ProviderConfig:
    """Return a provider with its secret resolved. Raises SpecError, also for an address that may not be reached."""
    if spec.kind not in KINDS:
        raise SpecError("kind", f"there is no kind {spec.kind!r}; known are {', '.join(KINDS)}")
    for field in ("base_url", "proxy_url"):
        try:
            if url := getattr(spec, field):
                egress.check_url(url)
        except EgressRefusedError as exc:
            raise SpecError(field, str(exc)) from exc
    try:
        credential = resolve(spec.credential_reference, secrets_dir)
        more_credentials = tuple(resolve(one, secrets_dir) for one in spec.more_credential_references)
    except ValueError as exc:
        raise SpecError("credential", str(exc)) from exc
    try:
        client_key = resolve(spec.client_key_reference, secrets_dir, lines=True)
    except ValueError as exc:
        raise SpecError("client_key_reference", str(exc)) from exc
    return ProviderConfig(
        id=name,
        kind=spec.kind,
        base_url=spec.base_url.rstrip("/"),
        public_label=spec.public_label or name,
        credential=credential,
        capabilities=frozenset(spec.capabilities),
        extra_headers=spec.extra_headers,
        connect_timeout_s=spec.connect_timeout_s,
        first_byte_timeout_s=spec.first_byte_timeout_s,
        idle_timeout_s=spec.idle_timeout_s,
        total_timeout_s=spec.total_timeout_s,
        more_credentials=more_credentials,
        caps=spec.caps,
        proxy_url=spec.proxy_url,
        ca_bundle_pem=spec.ca_bundle_pem,
        client_certificate_pem=spec.client_certificate_pem,
        client_key=client_key,
    )


def read_settings(
    providers: Sequence[ProviderSettings],
    models: Sequence[ModelSettings],
    secrets_dir: Path,
    egress: EgressPolicy,
    time: datetime,
) -> tuple[dict[str, ProviderConfig], Layer]:
    """Return the providers of the settings by id, and the layer that they and the models make.

    Raises ConfigurationError with everything that is wrong with either.
    """
    mistakes: list[str] = []
    configured: dict[str, ProviderConfig] = {}
    try:
        configured = build_providers(providers, secrets_dir, egress)
    except ConfigurationError as exc:
        mistakes += exc.mistakes
    try:
        layer = read_layer(providers, models, time)
    except ConfigurationError as exc:
        raise ConfigurationError([*mistakes, *exc.mistakes]) from exc
    if mistakes:
        raise ConfigurationError(mistakes)
    return configured, layer


def build_providers(
    settings: Sequence[ProviderSettings], secrets_dir: Path, egress: EgressPolicy
) -> dict[str, ProviderConfig]:
    """Return the providers of the settings by id.

    Raises ConfigurationError naming every reference that cannot be resolved, and every address that may not be
    reached.
    """
    problems: list[str] = []
    providers: dict[str, ProviderConfig] = {}
    for one in settings:
        if one.name in providers:
            problems.append(f"two providers are named {one.name!r}")
        try:
            providers[one.name] = configure(one.name, _provider_spec(one), secrets_dir, egress)
        except SpecError as exc:
            field = "base_url: " if exc.field == "base_url" else ""
            problems.append(f"provider {one.name!r}: {field}{exc}")
    if problems:
        raise ConfigurationError(problems)
    return providers


def read_layer(
    provider_settings: Sequence[ProviderSettings], model_settings: Sequence[ModelSettings], time: datetime
) -> Layer:
    """Return what the settings name; models without any provider are those of the built-in demo.

    Raises ConfigurationError for every route to a provider that is not there, and for two models of one name.
    """
    providers = {one.name: _provider_spec(one) for one in provider_settings}
    if model_settings and not providers:
        providers = {DEMO: DEMO_PROVIDER}
    problems = [
        f"model {model.name!r} has a route to {route.provider!r}, which is no provider"
        for model in model_settings
        for route in model.routes
        if route.provider not in providers
    ]
    names = [model.name for model in model_settings]
    problems += [f"two models are named {name!r}" for name in sorted({name for name in names if names.count(name) > 1})]
    layer = Layer(providers, {one.name: _model_spec(one) for one in model_settings}, time)
    try:
        ModelIndex(map(model_of, layer.model_entries().values()))
    except ValueError as exc:
        problems.append(str(exc))
    if problems:
        raise ConfigurationError(problems)
    return layer


def check_buildable(providers: Mapping[str, ProviderConfig], upstreams: NodeUpstreams) -> None:
    """Raise ConfigurationError naming every provider of the settings whose upstream cannot be built."""
    problems: list[str] = []
    for one in providers.values():
        try:
            upstreams.build(one)
        except SpecError as exc:
            problems.append(f"provider {one.id!r}: {exc}")
    if problems:
        raise ConfigurationError(problems)


def _provider_spec(one: ProviderSettings) -> ProviderSpec:
    return ProviderSpec(
        kind=one.kind,
        base_url=one.base_url,
        public_label=one.public_label,
        credential_reference=one.credential,
        capabilities=tuple(sorted(one.capabilities)),
        extra_headers=one.extra_headers,
        connect_timeout_s=one.connect_timeout_s,
        first_byte_timeout_s=one.first_byte_timeout_s,
        idle_timeout_s=one.idle_timeout_s,
        total_timeout_s=one.total_timeout_s,
        more_credential_references=one.more_credentials,
        caps=_caps(one),
        proxy_url=one.proxy_url.rstrip("/"),
        ca_bundle_pem=one.ca_bundle_pem,
        client_certificate_pem=one.client_certificate_pem,
        client_key_reference=one.client_key,
    )


def _caps(one: ProviderSettings | RouteSettings) -> Caps:
    return Caps(one.max_concurrent_requests, one.max_requests_per_minute, one.max_tokens_per_minute)


def _route(one: RouteSettings) -> Route:
    return Route(
        one.provider, one.upstream_model, one.weight, one.priority, one.tags, _caps(one),
        canonical(json.dumps(one.default_parameters)), canonical(json.dumps(one.forced_parameters)),
    )  # fmt: skip


def _midnight(day: date) -> int:
    return int(datetime.combine(day, time(), UTC).timestamp())


def _model_spec(one: ModelSettings) -> ModelSpec:
    return ModelSpec(
        routes=tuple(map(_route, one.routes)),
        aliases=one.aliases,
        display_name=one.display_name,
        description=one.description,
        context_window=one.context_window,
        max_output_tokens=one.max_output_tokens,
        capabilities=one.capabilities,
        supported_parameters=one.supported_parameters,
        availability_note=one.availability_note,
        owned_by=one.owned_by,
        public=one.visibility == "public",
        organizations=one.organizations,
        input_modalities=tuple(dict.fromkeys(one.input_modalities)),
        output_modalities=tuple(dict.fromkeys(one.output_modalities)),
        deprecate_time=None if one.deprecation_date is None else _midnight(one.deprecation_date),
        successor=one.successor,
        fallbacks=tuple(Fallback(f.model, f.causes) for f in one.fallbacks),
    )


def _tell(problems: Sequence[str]) -> None:
    if problems:
        logger().warning("catalogue_problems", problems=list(problems))
    else:
        logger().info("catalogue_whole")
