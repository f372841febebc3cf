"""From settings to the catalogue in force: providers with their secrets resolved, models with their routes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tokendance_server.config import ModelSettings, ProviderSettings
from tokendance_server.domain.catalog import COMPLETIONS, EMBEDDINGS, Catalog, Model, ProviderConfig, Route
from tokendance_server.domain.egress import EgressPolicy, EgressRefusedError
from tokendance_server.references import resolve
from tokendance_server.startup import StartupError

DEMO_PROVIDER = ProviderConfig(id="demo", kind="demo", public_label="Built-in demo")
DEMO_MODEL = Model(
    id="demo-echo",
    routes=(Route(provider="demo", upstream_model="demo-echo"),),
    display_name="Demo echo",
    description="Built into the gateway to try it out: repeats what you say, and says that it is a demo.",
    context_window=128_000,
    max_output_tokens=16_384,
    capabilities=(COMPLETIONS, EMBEDDINGS, "tools", "structured_output"),
)
"""What a node serves that no provider was configured for."""


def build_providers(
    settings: Sequence[ProviderSettings], secrets_dir: Path, egress: EgressPolicy
) -> dict[str, ProviderConfig]:
    """Return the providers by id.

    Raises StartupError naming every reference that cannot be resolved, and every address that may not be reached.
    """
    if not settings:
        return {DEMO_PROVIDER.id: DEMO_PROVIDER}
    problems: list[str] = []
    providers: dict[str, ProviderConfig] = {}
    for one in settings:
        if one.name in providers:
            problems.append(f"two providers are named {one.name!r}")
        try:
            if one.base_url:
                egress.check_url(one.base_url)
            credential = resolve(one.credential, secrets_dir)
        except EgressRefusedError as exc:
            problems.append(f"provider {one.name!r}: base_url: {exc}")
            continue
        except ValueError as exc:
            problems.append(f"provider {one.name!r}: {exc}")
            continue
        providers[one.name] = ProviderConfig(
            id=one.name,
            kind=one.kind,
            base_url=one.base_url.rstrip("/"),
            public_label=one.public_label or one.name,
            credential=credential,
            capabilities=one.capabilities,
            extra_headers=one.extra_headers,
            connect_timeout_s=one.connect_timeout_s,
            first_byte_timeout_s=one.first_byte_timeout_s,
            idle_timeout_s=one.idle_timeout_s,
            total_timeout_s=one.total_timeout_s,
        )
    if problems:
        raise StartupError("The configuration cannot be used: " + "; ".join(problems) + ".")
    return providers


def build_catalog(settings: Sequence[ModelSettings], providers: dict[str, ProviderConfig], created: int) -> Catalog:
    """Return the catalogue. `created` is in seconds since 1970.

    Raises StartupError for a route to a provider that is not there, and for two models of one name.
    """
    if not settings and DEMO_PROVIDER.id in providers:
        return Catalog([DEMO_MODEL])
    problems = [
        f"model {model.name!r} has a route to {route.provider!r}, which is no provider"
        for model in settings
        for route in model.routes
        if route.provider not in providers
    ]
    if problems:
        raise StartupError("The configuration cannot be used: " + "; ".join(problems) + ".")
    try:
        return Catalog(_model(one, created) for one in settings)
    except ValueError as exc:
        raise StartupError(f"The configuration cannot be used: {exc}.") from exc


def _model(one: ModelSettings, created: int) -> Model:
    return Model(
        id=one.name,
        aliases=one.aliases,
        routes=tuple(Route(r.provider, r.upstream_model, r.weight, r.priority) for r in one.routes),
        display_name=one.display_name,
        description=one.description,
        context_window=one.context_window,
        max_output_tokens=one.max_output_tokens,
        capabilities=one.capabilities,
        supported_parameters=one.supported_parameters,
        availability_note=one.availability_note,
        owned_by=one.owned_by,
        created=created,
    )
