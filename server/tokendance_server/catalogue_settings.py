"""What a settings file says of providers and models: tables that the catalogue is made of, checked at start."""

from __future__ import annotations

import json
from datetime import date
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from tokendance_server.config import ModelName, Name, Seconds, Settings
from tokendance_server.domain.catalogue.models import FallbackCause
from tokendance_server.domain.catalogue.parameters import problem_of

Tag = Annotated[str, StringConstraints(pattern=r"^[!-~]{1,100}$")]


def _check_parameters(value: dict[str, Any], forced: bool) -> dict[str, Any]:
    problem = problem_of(json.dumps(value) if value else "", forced=forced)
    if problem:
        raise ValueError(problem)
    return value


DefaultParameters = Annotated[dict[str, Any], AfterValidator(lambda value: _check_parameters(value, False))]
ForcedParameters = Annotated[dict[str, Any], AfterValidator(lambda value: _check_parameters(value, True))]
ModalityName = Literal["text", "audio", "image"]
VisibilityName = Literal["public", "internal", "organizations"]
OrganizationName = Annotated[str, StringConstraints(pattern=r"^organizations/[A-Za-z0-9_-]{1,64}$")]


class CapSettings(Settings):
    """The most that a route or a credential takes; what is left out has no cap."""

    max_concurrent_requests: int | None = Field(default=None, ge=1)
    max_requests_per_minute: int | None = Field(default=None, ge=1)
    max_tokens_per_minute: int | None = Field(default=None, ge=1)


class ProviderSettings(CapSettings):
    """One [[providers]] table: an upstream and how to reach it. Times in seconds; caps hold for each credential.

    Calls are shared among `credential` and `more_credentials`.
    """

    name: Name
    kind: Name
    base_url: str = ""
    public_label: str = Field(default="", max_length=100)
    credential: str = Field(default="", max_length=512)
    more_credentials: tuple[Annotated[str, Field(max_length=512)], ...] = Field(default=(), max_length=15)
    capabilities: frozenset[str] = frozenset()
    extra_headers: dict[str, str] = Field(default_factory=dict)
    connect_timeout_s: Seconds = 5
    first_byte_timeout_s: Seconds = 600
    idle_timeout_s: Seconds = 120
    total_timeout_s: Seconds = 3600
    proxy_url: str = Field(default="", max_length=2048)
    ca_bundle_pem: str = Field(default="", max_length=262_144)
    client_certificate_pem: str = Field(default="", max_length=65_536)
    client_key: str = Field(default="", max_length=512)

    @model_validator(mode="after")
    def _check(self) -> ProviderSettings:
        if self.kind == "demo":
            return self
        mistakes = []
        if not self.base_url.startswith(("http://", "https://")):
            mistakes.append("base_url must start with http:// or https://")
        references = [one for one in (self.credential, *self.more_credentials, self.client_key) if one]
        if not all(one.startswith(("env:TOKENDANCE_PROVIDER_", "file:")) for one in references):
            mistakes.append("credential must be a reference: env:TOKENDANCE_PROVIDER_… or file:…, never the key itself")
        if self.more_credentials and not self.credential:
            mistakes.append("more_credentials go with a first credential")
        if bool(self.client_key) != bool(self.client_certificate_pem):
            mistakes.append("client_certificate_pem goes with client_key, and neither without the other")
        if mistakes:
            raise ValueError("; ".join(mistakes))
        return self


class RouteSettings(CapSettings):
    """One route of a model; organizations and keys exclude routes by `tags`.

    The parameters are in the upstream's own names: the default ones stand where a caller gives none.
    """

    provider: Name
    upstream_model: ModelName
    weight: int = Field(default=1, ge=1, le=1000)
    priority: int = Field(default=0, ge=0, le=1000)
    tags: tuple[Tag, ...] = Field(default=(), max_length=32)
    default_parameters: DefaultParameters = Field(default_factory=dict)
    forced_parameters: ForcedParameters = Field(default_factory=dict)


class FallbackSettings(Settings):
    """A model that answers in the place of another, for these causes, or for any."""

    model: ModelName
    causes: tuple[FallbackCause, ...] = ()


class ModelSettings(Settings):
    """One [[models]] table: a model and its routes, for everybody or for the named organizations."""

    name: ModelName
    aliases: tuple[ModelName, ...] = ()
    routes: tuple[RouteSettings, ...] = Field(min_length=1)
    display_name: str = ""
    description: str = ""
    context_window: int | None = Field(default=None, ge=1)
    max_output_tokens: int | None = Field(default=None, ge=1)
    capabilities: tuple[Literal["completions", "embeddings", "tools", "structured_output", "reasoning"], ...] = (
        "completions",
    )
    supported_parameters: tuple[str, ...] = ()
    availability_note: str = ""
    owned_by: str = "tokendance"
    fallbacks: tuple[FallbackSettings, ...] = Field(default=(), max_length=10)
    visibility: VisibilityName = "public"
    organizations: tuple[OrganizationName, ...] = Field(default=(), max_length=1000)
    input_modalities: tuple[ModalityName, ...] = ("text",)
    output_modalities: tuple[ModalityName, ...] = ("text",)
    deprecation_date: date | None = None
    successor: str = Field(default="", max_length=256)

    @model_validator(mode="after")
    def _check_visibility(self) -> ModelSettings:
        check_visibility(self.visibility, self.organizations)
        return self


def check_visibility(visibility: str, organizations: tuple[str, ...]) -> None:
    """Raise ValueError where organizations are named for another visibility, or none for theirs."""
    if (visibility == "organizations") != bool(organizations):
        raise ValueError("organizations go with visibility = organizations, which needs one or more")
