"""What a node reaches, and what it serves: egress, providers with their credentials, models with their routes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from urllib.parse import urlsplit

from tokendance_cli.announcement import is_local
from tokendance_cli.node import Role, is_loopback_only
from tokendance_cli.preflight.doors import open_to_others
from tokendance_cli.preflight.row import Row, State
from tokendance_cli.settings import GatewaySettings
from tokendance_server.catalogue import build_providers
from tokendance_server.catalogue_settings import ProviderSettings
from tokendance_server.domain.catalogue.entries import Rows
from tokendance_server.domain.egress import EgressPolicy, EgressRefusedError
from tokendance_server.providers.kinds import build_upstream
from tokendance_server.providers.transport import open_transport
from tokendance_server.references import resolve
from tokendance_server.startup import StartupError
from tokendance_server.storage import secrets_dir

_DEMO = "demo"
_MADE_UP = "anybody with a key gets made-up answers"


def inspect_egress(settings: GatewaySettings, role: Role) -> Row:
    """Tell what the node may connect to besides public addresses."""
    policy = policy_of(settings, role)
    opened = [str(network) for network in policy.allowed_private]
    if policy.allow_loopback:
        opened.insert(0, "loopback")
    if not opened:
        return Row("egress", State.ON, "public addresses only")
    told = f"public addresses, {', '.join(opened)}"
    if is_loopback_only(settings, role):
        return Row("egress", State.ON, told)
    return Row(
        "egress",
        State.INSECURE,
        f"{told}: whoever may name a provider's address reaches those too",
        "open no more than needed in [server.egress]",
    )


def inspect_providers(settings: GatewaySettings, role: Role, kept: Rows | None) -> Iterator[Row]:
    """Yield each provider of the settings: whether its address may be reached, and its credential be found.

    `kept` is what the database holds beside them, where that is known.
    """
    if not settings.providers:
        if kept is None or not (kept.providers or kept.models):
            unless = "" if kept is not None else ", unless the database names a provider"
            do = "name a provider in the settings, or with `tokendance apply`"
            yield Row(f"provider {_DEMO}", State.INSECURE, f"built in{unless}: {_MADE_UP}", do)
        return
    policy = policy_of(settings, role)
    counts = Counter(one.name for one in settings.providers)
    for one in settings.providers:
        part = f"provider {one.name}"
        if counts[one.name] > 1:
            yield Row(part, State.PROBLEM, "there are two of this name", "rename one")
            continue
        yield _provider(part, one, settings, policy)


def inspect_models(settings: GatewaySettings, kept: Rows | None) -> Iterator[Row]:
    """Yield each model of the settings: its routes, and what is wrong with its name."""
    if not settings.models:
        if kept is not None and kept.models:
            return
        if settings.providers or (kept is not None and kept.providers):
            do = "name models in the settings, or with `tokendance apply`"
            yield Row("models", State.OFF, "none is configured, so no call can be answered", do)
        else:
            yield Row("models", State.ON, "those of the built-in demo")
        return
    names = Counter(name for one in settings.models for name in {one.name, *one.aliases})
    providers = {one.name for one in settings.providers} or {_DEMO}
    for one in settings.models:
        part = f"model {one.name}"
        twice = sorted(name for name in {one.name, *one.aliases} if names[name] > 1)
        missing = sorted({route.provider for route in one.routes} - providers)
        if twice:
            yield Row(part, State.PROBLEM, f"another model answers to {', '.join(twice)} too", "rename one")
        elif missing:
            yield Row(part, State.PROBLEM, f"{', '.join(missing)} is no provider", "name a provider in its routes")
        else:
            yield Row(part, State.ON, ", ".join(f"{route.provider}/{route.upstream_model}" for route in one.routes))


def policy_of(settings: GatewaySettings, role: Role) -> EgressPolicy:
    """Return what a node of these settings may connect to."""
    return settings.server.egress.policy(loopback_only=is_loopback_only(settings, role))


def _provider(part: str, one: ProviderSettings, settings: GatewaySettings, policy: EgressPolicy) -> Row:
    if one.kind == "demo":
        return Row(part, State.INSECURE, f"the built-in demo: {_MADE_UP}", "leave it out where others call")
    secrets = secrets_dir(settings.server.data_dir)
    try:
        policy.check_url(one.base_url)
        resolve(one.credential, secrets)
        built = build_providers([one], secrets, policy)[one.name]
        build_upstream(built, open_transport(settings.server.upstream_client, policy))
    except (EgressRefusedError, StartupError, ValueError) as error:
        return Row(part, State.PROBLEM, str(error), "correct it in [[providers]]")
    told = f"{one.kind} at {one.base_url}, {f'key from {one.credential}' if one.credential else 'without a key'}"
    file = secrets / one.credential.removeprefix("file:")
    if one.credential.startswith("file:") and (mode := open_to_others(file)):
        return Row(part, State.INSECURE, f"{told}; {file} is open to others ({mode:04o})", f"chmod 600 {file}")
    if urlsplit(one.base_url).scheme == "http" and not is_local(one.base_url):
        return Row(part, State.INSECURE, f"{told}; without TLS", "write https://")
    return Row(part, State.ON, told)
