"""The model catalogue: public names, aliases, and the routes behind them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import access_pb2, errors_pb2
from tokendance_server.domain.principals import Principal

COMPLETIONS = "completions"
EMBEDDINGS = "embeddings"
TEXT = "text"
MODALITIES = (TEXT, "audio", "image")
BELOW = "/*"
"""The end of an alias that means every name below it."""


@dataclass(frozen=True, slots=True)
class Caps:
    """The most that may run at once, and come and be used within any minute; 1 or more each, None: any."""

    max_concurrent_requests: int | None = None
    max_requests_per_minute: int | None = None
    max_tokens_per_minute: int | None = None


NO_CAPS = Caps()


@dataclass(frozen=True, slots=True)
class Route:
    """One way to an upstream. Lower priorities are tried first; `weight` shares calls among equals, 1 or more.

    Organizations and keys exclude routes by their `tags`. The parameters are JSON objects in the upstream's own names,
    or empty: the default ones stand where a caller gives none, the forced ones in any case.
    """

    provider: str
    upstream_model: str
    weight: int = 1
    priority: int = 0
    tags: tuple[str, ...] = ()
    caps: Caps = NO_CAPS
    default_parameters: str = ""
    forced_parameters: str = ""


class FallbackCause(StrEnum):
    """Why another model answers in the place of the one that was asked for."""

    CONTEXT_LENGTH = "context_length"
    CONTENT_FILTER = "content_filter"
    UNAVAILABLE = "unavailable"


@dataclass(frozen=True, slots=True)
class Fallback:
    """A model, by its public id, that answers in the place of another: for these causes, or for any where none is."""

    model: str
    causes: tuple[FallbackCause, ...] = ()


@dataclass(frozen=True, slots=True)
class Model:
    """A public model. Token counts are None where not stated; `capabilities` are names such as `completions`.

    `organizations` are resource names: where there are any, nobody else sees it. `deprecate_time` is in seconds since
    1970, None where it is to stay.
    """

    id: str
    routes: tuple[Route, ...]
    aliases: tuple[str, ...] = ()
    display_name: str = ""
    description: str = ""
    context_window: int | None = None
    max_output_tokens: int | None = None
    capabilities: tuple[str, ...] = (COMPLETIONS,)
    supported_parameters: tuple[str, ...] = ()
    availability_note: str = ""
    owned_by: str = "tokendance"
    created: int = 0
    public: bool = True
    fallbacks: tuple[Fallback, ...] = ()
    organizations: frozenset[str] = frozenset()
    input_modalities: tuple[str, ...] = (TEXT,)
    output_modalities: tuple[str, ...] = (TEXT,)
    deprecate_time: int | None = None
    successor: str = ""


@dataclass(frozen=True, slots=True)
class ProviderConfig:
    """One upstream as configured. Times are in seconds; credentials are the secrets themselves, never printed.

    `caps` hold for each of the credentials. Certificates are in PEM; `client_key` is that of the client's certificate.
    """

    id: str
    kind: str
    base_url: str = ""
    public_label: str = ""
    credential: str = field(default="", repr=False)
    capabilities: frozenset[str] = frozenset()
    extra_headers: Mapping[str, str] = field(default_factory=dict)
    connect_timeout_s: float = 5.0
    first_byte_timeout_s: float = 600.0
    idle_timeout_s: float = 120.0
    total_timeout_s: float = 3600.0
    more_credentials: tuple[str, ...] = field(default=(), repr=False)
    caps: Caps = NO_CAPS
    proxy_url: str = ""
    ca_bundle_pem: str = ""
    client_certificate_pem: str = ""
    client_key: str = field(default="", repr=False)


class ModelIndex:
    """Every model by its names. Immutable: a change makes a new one."""

    def __init__(self, models: Iterable[Model], version: int = 1) -> None:
        """Index the models; raises ValueError where two claim one name."""
        self.version = version
        self._models = tuple(sorted(models, key=lambda model: model.id))
        self._by_name: dict[str, Model] = {}
        for model in self._models:
            for name in (model.id, *model.aliases):
                if name in self._by_name:
                    raise ValueError(f"two models claim the name {name!r}: {self._by_name[name].id} and {model.id}")
                self._by_name[name] = model

    @property
    def models(self) -> Sequence[Model]:
        """Every model, by id."""
        return self._models

    def has(self, model_id: str) -> bool:
        """Tell whether this is the id of a model: an alias is not."""
        model = self._by_name.get(model_id)
        return model is not None and model.id == model_id

    def visible_to(self, principal: Principal) -> Sequence[Model]:
        """Return the models that the caller may call, by id; to a caller without a credential, the public ones."""
        return [model for model in self._models if self.allows(model, principal)]

    def find(self, name: str, principal: Principal) -> Model:
        """Return the model of a name or alias.

        Raises model_not_found where there is none that this caller sees, model_not_allowed where it may not call it.
        """
        model = self._by_name.get(name) or self._find_below(name)
        if model is None or not _sees(principal, model):
            raise GatewayError(
                errors_pb2.ERROR_REASON_MODEL_NOT_FOUND,
                f"There is no model named {name!r}; see GET /v1/models for the models of this key.",
                param="model",
                metadata={"model": name},
                origin="caller",
            )
        if not self.allows(model, principal):
            raise GatewayError(
                errors_pb2.ERROR_REASON_MODEL_NOT_ALLOWED,
                f"This API key may not call the model {name!r}; see GET /v1/models for those it may call.",
                param="model",
                metadata={"model": name},
                origin="caller",
            )
        return model

    @staticmethod
    def allows(model: Model, principal: Principal) -> bool:
        """Tell whether a caller may call a model: it sees it, its key allows it, and its policy leaves a route."""
        if not _sees(principal, model):
            return False
        excluded = principal.excluded_route_tags
        if excluded and not any(excluded.isdisjoint(route.tags) for route in model.routes):
            return False
        allowed = principal.allowed_models
        return not allowed or model.id in allowed or any(_is_named(alias, allowed) for alias in model.aliases)

    def _find_below(self, name: str) -> Model | None:
        """Return the model whose alias means every name below a part of this one: the longest such part."""
        at = name.rfind("/")
        while at > 0:
            model = self._by_name.get(name[:at] + BELOW)
            if model is not None:
                return model
            at = name.rfind("/", 0, at)
        return None


def _sees(principal: Principal, model: Model) -> bool:
    """Tell whether a model is there for a caller; those of the whole platform see all that there are."""
    if access_pb2.CALLER_KIND_ANYONE in principal.kinds:
        return model.public
    return not (model.organizations and principal.organization) or principal.organization in model.organizations


def _is_named(alias: str, names: Iterable[str]) -> bool:
    below = alias.removesuffix("*")
    return alias in names or (alias.endswith(BELOW) and any(name.startswith(below) for name in names))
