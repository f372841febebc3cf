"""Two layers of the catalogue made one: what the node's settings name wins over what is kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from tokendance_server.domain.catalogue.entries import Entry, ModelSpec, ProviderSpec, Rows
from tokendance_server.domain.catalogue.models import COMPLETIONS, EMBEDDINGS, Model, Route

DEMO = "demo"
DEMO_PROVIDER = ProviderSpec(kind="demo", public_label="Built-in demo")
_DEMO_MODEL = ModelSpec(
    routes=(Route(provider=DEMO, upstream_model="demo-echo"),),
    display_name="Demo echo",
    description="Built into the gateway to try it out: repeats what you say, and says that it is a demo.",
    context_window=128_000,
    max_output_tokens=16_384,
    capabilities=(COMPLETIONS, EMBEDDINGS, "tools", "structured_output"),
)
"""What a node serves for which nothing was configured."""


@dataclass(frozen=True, slots=True)
class Layer:
    """What the settings of a node name: no RPC changes it. `time` is that of the node's start."""

    providers: Mapping[str, ProviderSpec] = field(default_factory=dict)
    models: Mapping[str, ModelSpec] = field(default_factory=dict)
    time: datetime = datetime(1970, 1, 1, tzinfo=UTC)

    def provider_entries(self) -> dict[str, Entry[ProviderSpec]]:
        """Return the providers as read-only entries."""
        return {name: Entry(name, spec, self.time, self.time, version=0) for name, spec in self.providers.items()}

    def model_entries(self) -> dict[str, Entry[ModelSpec]]:
        """Return the models as read-only entries."""
        return {name: Entry(name, spec, self.time, self.time, version=0) for name, spec in self.models.items()}


@dataclass(frozen=True, slots=True)
class Combined:
    """What can be served, and sentences about what cannot."""

    providers: Mapping[str, ProviderSpec]
    models: Sequence[Model]
    problems: Sequence[str]


def combine(settings: Layer, rows: Rows) -> Combined:
    """Return what both layers give together; the built-in demo where they give nothing.

    What is kept was checked against the settings of its time, and these may have changed since: what now clashes with
    them, or leads nowhere, is left out and told.
    """
    problems: list[str] = []
    for kind, kept, named in (
        ("provider", rows.providers, settings.providers.keys()),
        ("model", rows.models, settings.models.keys()),
    ):
        problems += [
            f"{kind} {name!r} is named by the settings, which win over what is kept" for name in kept if name in named
        ]
    providers = {name: entry.spec for name, entry in rows.providers.items()} | dict(settings.providers)
    if not providers and not settings.models and not rows.models:
        return Combined({DEMO: DEMO_PROVIDER}, [model_of(_demo_entry(settings))], [])
    models = [model_of(entry) for entry in settings.model_entries().values()]
    taken = {name for model in models for name in (model.id, *model.aliases)}
    kept_models = {name: entry for name, entry in rows.models.items() if name not in settings.models}
    models += _kept(kept_models, providers, taken, problems)
    known = {model.id for model in models}
    problems += [
        f"model {model.id!r} falls back to {one.model!r}, which is no model"
        for model in models
        for one in model.fallbacks
        if one.model not in known
    ]
    return Combined(providers, models, problems)


def _kept(
    kept: Mapping[str, Entry[ModelSpec]], providers: Mapping[str, ProviderSpec], taken: set[str], problems: list[str]
) -> list[Model]:
    found: list[Model] = []
    for name, entry in kept.items():
        if name in taken:
            problems.append(f"model {name!r} is left out: the settings give its name to another model")
            continue
        spec = entry.spec
        routes = tuple(route for route in spec.routes if route.provider in providers)
        problems += [
            f"model {name!r} has a route to {route.provider!r}, which is no provider any more"
            for route in spec.routes
            if route not in routes
        ]
        if not routes:
            problems.append(f"model {name!r} is left out: no route of it is left")
            continue
        aliases = tuple(alias for alias in spec.aliases if alias not in taken)
        problems += [
            f"model {name!r} loses its alias {alias!r}, which the settings give to another model"
            for alias in spec.aliases
            if alias in taken
        ]
        found.append(model_of(entry, aliases=aliases, routes=routes))
    return found


def model_of(
    entry: Entry[ModelSpec], *, aliases: tuple[str, ...] | None = None, routes: tuple[Route, ...] | None = None
) -> Model:
    """Return the model of an entry, with other aliases or routes where they are given."""
    spec = entry.spec
    return Model(
        id=entry.name,
        routes=spec.routes if routes is None else routes,
        aliases=spec.aliases if aliases is None else aliases,
        display_name=spec.display_name,
        description=spec.description,
        context_window=spec.context_window,
        max_output_tokens=spec.max_output_tokens,
        capabilities=spec.capabilities,
        supported_parameters=spec.supported_parameters,
        availability_note=spec.availability_note,
        owned_by=spec.owned_by,
        created=int(entry.create_time.timestamp()),
        public=spec.public,
        fallbacks=spec.fallbacks,
        organizations=frozenset(spec.organizations),
        input_modalities=spec.input_modalities,
        output_modalities=spec.output_modalities,
        deprecate_time=spec.deprecate_time,
        successor=spec.successor,
    )


def _demo_entry(settings: Layer) -> Entry[ModelSpec]:
    return Entry("demo-echo", _DEMO_MODEL, settings.time, settings.time, version=0)
