"""Providers and models that the database keeps, as the node would serve them beside its settings."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

from tokendance_cli.announcement import is_local
from tokendance_cli.preflight.row import Row, State
from tokendance_cli.settings import GatewaySettings
from tokendance_server.domain.catalogue.entries import ModelSpec, ProviderSpec
from tokendance_server.domain.catalogue.models import Route
from tokendance_server.inspection import KeptCatalogue

_APPLY = "correct it with `tokendance apply`"


def inspect_kept(settings: GatewaySettings, found: KeptCatalogue) -> Iterator[Row]:
    """Yield each provider and each model of the database: whether calls would get through."""
    named = {one.name for one in settings.providers}
    for name, entry in found.rows.providers.items():
        part = f"provider {name} (kept)"
        if name in named:
            yield Row(part, State.LIMITED, "the settings name it too, and win", "delete it, or rename one")
        else:
            yield _provider(part, name, entry.spec, found)
    named = {one.name for one in settings.models}
    for name, model in found.rows.models.items():
        part = f"model {name} (kept)"
        if name in named:
            yield Row(part, State.LIMITED, "the settings name it too, and win", "delete it, or rename one")
        else:
            yield _model(part, name, model.spec, found)


def _provider(part: str, name: str, spec: ProviderSpec, found: KeptCatalogue) -> Row:
    if name in found.broken:
        error = found.broken[name]
        do = f"set it for the node, or {_APPLY}" if error.field == "credential" else _APPLY
        return Row(part, State.BROKEN, f"it cannot be called: {error}", do)
    if spec.kind == "demo":
        return Row(part, State.INSECURE, "the built-in demo: anybody with a key gets made-up answers", "delete it")
    key = "a sealed key" if spec.sealed_credential else "without a key"
    if spec.credential_reference:
        key = f"key from {spec.credential_reference}"
    told = f"{spec.kind} at {spec.base_url}, {key}"
    if urlsplit(spec.base_url).scheme == "http" and not is_local(spec.base_url):
        return Row(part, State.INSECURE, f"{told}; without TLS", "write https://")
    return Row(part, State.ON, told)


def _model(part: str, name: str, spec: ModelSpec, found: KeptCatalogue) -> Row:
    good = [route for route in spec.routes if route.provider in found.providers and route.provider not in found.broken]
    lost = ", ".join(dict.fromkeys(route.provider for route in spec.routes if route not in good))
    if not good:
        return Row(part, State.BROKEN, f"no route works: {lost} cannot be called", "mend a provider, or its routes")
    if name not in found.served:
        return Row(part, State.BROKEN, "the settings give its name to another model", "rename one")
    told = ", ".join(map(_told, good))
    aliases = sorted({*spec.aliases} - {*found.served[name].aliases})
    if aliases:
        told = f"{told}; the settings give {', '.join(aliases)} to another model"
        return Row(part, State.LIMITED, told, "rename one")
    if lost:
        return Row(part, State.LIMITED, f"{told}; the routes to {lost} do not work", "mend a provider, or its routes")
    return Row(part, State.ON, told)


def _told(route: Route) -> str:
    return f"{route.provider}/{route.upstream_model}"
