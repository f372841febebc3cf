"""Providers and models as messages: from a request to what is kept, and from what is kept to what callers see.

What the gateway sets itself is refused by name, never kept without effect.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping
from typing import Any

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import completion_pb2, errors_pb2
from tokendance.gateway.v1 import models_service_pb2 as pb
from tokendance_server.domain.catalogue.entries import Entry, ModelSpec, ProviderSpec
from tokendance_server.domain.catalogue.layers import model_of
from tokendance_server.domain.catalogue.models import (
    COMPLETIONS,
    EMBEDDINGS,
    MODALITIES,
    TEXT,
    Caps,
    Fallback,
    FallbackCause,
    Model,
    Route,
)
from tokendance_server.domain.catalogue.parameters import canonical, problem_of

_CAPABILITIES = {
    name.removeprefix("MODEL_CAPABILITY_").lower(): number for name, number in pb.ModelCapability.items() if number
}
_CAPABILITY_NAMES = {number: name for name, number in _CAPABILITIES.items()}

_CAPS = ("max_concurrent_requests", "max_requests_per_minute", "max_tokens_per_minute")
_CAUSES = {
    FallbackCause.CONTEXT_LENGTH: pb.FALLBACK_CAUSE_CONTEXT_LENGTH,
    FallbackCause.CONTENT_FILTER: pb.FALLBACK_CAUSE_CONTENT_FILTER,
    FallbackCause.UNAVAILABLE: pb.FALLBACK_CAUSE_UNAVAILABLE,
}
_CAUSE_OF = {number: cause for cause, number in _CAUSES.items()}

_PROVIDER_FIELDS = {
    "public_label": "public_label",
    "kind": "kind",
    "base_url": "base_url",
    "credential_reference": "credential_reference",
    "credential": "credential",
    "capabilities": "capabilities",
    "extra_headers": "extra_headers",
    "connect_timeout": "connect_timeout_s",
    "first_byte_timeout": "first_byte_timeout_s",
    "idle_timeout": "idle_timeout_s",
    "more_credential_references": "more_credential_references",
    "proxy_url": "proxy_url",
    "ca_bundle_pem": "ca_bundle_pem",
    "client_certificate_pem": "client_certificate_pem",
    "client_key_reference": "client_key_reference",
    **{name: f"caps.{name}" for name in _CAPS},
}
_MODEL_FIELDS = {
    "routes": "routes",
    "fallbacks": "fallbacks",
    "visibility": "public",
    "organizations": "organizations",
    "model.aliases": "aliases",
    "model.display_name": "display_name",
    "model.description": "description",
    "model.context_window": "context_window",
    "model.max_output_tokens": "max_output_tokens",
    "model.capabilities": "capabilities",
    "model.supported_parameters": "supported_parameters",
    "model.availability_note": "availability_note",
    "model.owned_by": "owned_by",
    "model.input_modalities": "input_modalities",
    "model.output_modalities": "output_modalities",
    "model.deprecate_time": "deprecate_time",
    "model.successor": "successor",
}
"""The paths of an update mask, and the field of the spec that each names."""

_MODALITIES = {name: completion_pb2.Modality.Value(f"MODALITY_{name.upper()}") for name in MODALITIES}
_MODALITY_NAMES = {number: name for name, number in _MODALITIES.items()}


def provider_id(name: str) -> str:
    """Return the id in `providers/{provider}`, or in the id alone."""
    return name.removeprefix("providers/")


def model_id(name: str) -> str:
    """Return the id in `models/{model}`, or in the id alone."""
    return name.removeprefix("models/")


def provider_message(entry: Entry[ProviderSpec]) -> pb.Provider:
    """Return a provider as administrators see it: the credential by reference, or only that there is one."""
    spec = entry.spec
    return pb.Provider(
        name=f"providers/{entry.name}",
        public_label=spec.public_label,
        kind=spec.kind,
        base_url=spec.base_url,
        credential_reference=spec.credential_reference,
        has_credential=bool(spec.credential_reference or spec.sealed_credential),
        capabilities=spec.capabilities,
        extra_headers=spec.extra_headers,
        connect_timeout=_duration(spec.connect_timeout_s),
        first_byte_timeout=_duration(spec.first_byte_timeout_s),
        idle_timeout=_duration(spec.idle_timeout_s),
        more_credential_references=spec.more_credential_references,
        **_set_caps(spec.caps),
        proxy_url=spec.proxy_url,
        ca_bundle_pem=spec.ca_bundle_pem,
        client_certificate_pem=spec.client_certificate_pem,
        client_key_reference=spec.client_key_reference,
        etag=entry.etag,
        read_only=entry.read_only,
    )


def model_config_message(entry: Entry[ModelSpec]) -> pb.ModelConfig:
    """Return a model as administrators see it, with its routes."""
    model = model_message(model_of(entry))
    model.display_name = entry.spec.display_name
    return pb.ModelConfig(
        model=model,
        routes=[
            pb.Route(
                provider=f"providers/{route.provider}",
                upstream_model=route.upstream_model,
                weight=route.weight,
                priority=route.priority,
                tags=route.tags,
                **_set_caps(route.caps),
                default_parameters_json=route.default_parameters,
                forced_parameters_json=route.forced_parameters,
            )
            for route in entry.spec.routes
        ],
        fallbacks=[
            pb.Fallback(model=one.model, causes=[_CAUSES[cause] for cause in one.causes])
            for one in entry.spec.fallbacks
        ],
        visibility=_visibility(entry.spec),
        organizations=entry.spec.organizations,
        etag=entry.etag,
        read_only=entry.read_only,
    )


def model_message(model: Model) -> pb.Model:
    """Return the public view of a model."""
    embeds_only = model.capabilities == (EMBEDDINGS,)
    view = pb.Model(
        name=f"models/{model.id}",
        id=model.id,
        aliases=model.aliases,
        display_name=model.display_name or model.id,
        description=model.description,
        context_window=model.context_window,
        max_output_tokens=model.max_output_tokens,
        input_modalities=[_MODALITIES[name] for name in model.input_modalities],
        output_modalities=[] if embeds_only else [_MODALITIES[name] for name in model.output_modalities],
        capabilities=[_CAPABILITIES[capability] for capability in model.capabilities],
        supported_parameters=model.supported_parameters,
        availability_note=model.availability_note,
        owned_by=model.owned_by,
        successor=model.successor,
    )
    view.create_time.FromSeconds(model.created)
    if model.deprecate_time is not None:
        view.deprecate_time.FromSeconds(model.deprecate_time)
    return view


def _visibility(spec: ModelSpec) -> pb.ModelVisibility.ValueType:
    if spec.organizations:
        return pb.MODEL_VISIBILITY_ORGANIZATIONS
    return pb.MODEL_VISIBILITY_PUBLIC if spec.public else pb.MODEL_VISIBILITY_INTERNAL


def new_provider(message: pb.Provider) -> ProviderSpec:
    """Return what a provider is to be. Raises for what the gateway sets."""
    _refuse_set(message, ("has_credential", "etag", "read_only"), "provider")
    return _provider_spec(message)


def new_model(message: pb.ModelConfig) -> ModelSpec:
    """Return what a model is to be. Raises for what the gateway sets; prices are set by an RPC of their own."""
    _refuse_set(message, ("etag", "read_only"), "model_config")
    _refuse_set(message.model, ("create_time", "prices"), "model_config.model")
    return _model_spec(message)


def model_id_of(message: pb.ModelConfig) -> str:
    """Return the id that a model is to have, given as its name, its id, or both. Raises invalid_request."""
    given = {model_id(message.model.name), message.model.id} - {""}
    if len(given) > 1:
        raise _invalid("model_config.model.id", "must be the same as in model_config.model.name, or left out")
    return given.pop() if given else ""


def provider_changes(message: pb.Provider, paths: Iterable[str]) -> dict[str, Any]:
    """Return the new values by the field of ProviderSpec, and `credential` itself. Raises for any other path.

    A cap alone is named such as `caps.max_concurrent_requests`.
    """
    fields = _fields(paths, _PROVIDER_FIELDS)
    spec = _provider_spec(message)
    return {
        field: message.credential if field == "credential" else operator.attrgetter(field)(spec) for field in fields
    }


def model_changes(message: pb.ModelConfig, paths: Iterable[str]) -> dict[str, Any]:
    """Return the new values by the field of ModelSpec. Raises for a path that cannot be changed.

    Visibility and organizations belong together: either path changes both.
    """
    fields = _fields(paths, _MODEL_FIELDS)
    if "public" in fields or "organizations" in fields:
        fields += ["public", "organizations"]
    spec = _model_spec(message)
    return {field: getattr(spec, field) for field in fields}


def _provider_spec(message: pb.Provider) -> ProviderSpec:
    times: dict[str, Any] = {
        f"{name}_s": _seconds(getattr(message, name))
        for name in ("connect_timeout", "first_byte_timeout", "idle_timeout")
        if message.HasField(name)
    }
    return ProviderSpec(
        kind=message.kind,
        base_url=message.base_url.rstrip("/"),
        public_label=message.public_label,
        credential_reference=message.credential_reference,
        capabilities=tuple(sorted(set(message.capabilities))),
        extra_headers=dict(sorted(message.extra_headers.items())),
        more_credential_references=tuple(message.more_credential_references),
        caps=_caps(message),
        proxy_url=message.proxy_url.rstrip("/"),
        ca_bundle_pem=message.ca_bundle_pem,
        client_certificate_pem=message.client_certificate_pem,
        client_key_reference=message.client_key_reference,
        **times,
    )


def _model_spec(message: pb.ModelConfig) -> ModelSpec:
    by_organization = message.visibility == pb.MODEL_VISIBILITY_ORGANIZATIONS
    if by_organization != bool(message.organizations):
        raise _invalid("model_config.organizations", "go with the visibility by organization, which needs one or more")
    model = message.model
    return ModelSpec(
        routes=tuple(_route(route, f"model_config.routes[{number}]") for number, route in enumerate(message.routes)),
        aliases=tuple(model.aliases),
        display_name=model.display_name,
        description=model.description,
        context_window=model.context_window if model.HasField("context_window") else None,
        max_output_tokens=model.max_output_tokens if model.HasField("max_output_tokens") else None,
        supported_parameters=tuple(model.supported_parameters),
        availability_note=model.availability_note,
        public=message.visibility == pb.MODEL_VISIBILITY_PUBLIC,
        capabilities=_capabilities(model.capabilities) or (COMPLETIONS,),
        owned_by=model.owned_by or "tokendance",
        fallbacks=tuple(_fallback(one) for one in message.fallbacks),
        organizations=tuple(dict.fromkeys(message.organizations)),
        input_modalities=_modalities(model.input_modalities, "input_modalities"),
        output_modalities=_modalities(model.output_modalities, "output_modalities"),
        deprecate_time=model.deprecate_time.seconds if model.HasField("deprecate_time") else None,
        successor=model.successor,
    )


def _modalities(numbers: Iterable[completion_pb2.Modality.ValueType], field: str) -> tuple[str, ...]:
    """Names of modalities; text where none is given."""
    names = []
    for place, number in enumerate(numbers):
        if number not in _MODALITY_NAMES:
            raise _invalid(f"model_config.model.{field}[{place}]", "is no modality that this version knows")
        names.append(_MODALITY_NAMES[number])
    return tuple(dict.fromkeys(names)) or (TEXT,)


def _fallback(message: pb.Fallback) -> Fallback:
    return Fallback(model_id(message.model), tuple(dict.fromkeys(_CAUSE_OF[cause] for cause in message.causes)))


def _caps(message: Any) -> Caps:
    return Caps(**{name: getattr(message, name) if message.HasField(name) else None for name in _CAPS})


def _set_caps(caps: Caps) -> dict[str, Any]:
    return {name: cap for name in _CAPS if (cap := getattr(caps, name)) is not None}


def _capabilities(numbers: Iterable[pb.ModelCapability.ValueType]) -> tuple[str, ...]:
    names = []
    for place, number in enumerate(numbers):
        if number not in _CAPABILITY_NAMES:
            raise _invalid(f"model_config.model.capabilities[{place}]", "is no capability that this version knows")
        names.append(_CAPABILITY_NAMES[number])
    return tuple(dict.fromkeys(names))


def _route(message: pb.Route, where: str) -> Route:
    return Route(
        provider_id(message.provider),
        message.upstream_model,
        message.weight or 1,
        message.priority,
        tuple(message.tags),
        _caps(message),
        _parameters(message.default_parameters_json, f"{where}.default_parameters_json", forced=False),
        _parameters(message.forced_parameters_json, f"{where}.forced_parameters_json", forced=True),
    )


def _parameters(text: str, where: str, *, forced: bool) -> str:
    problem = problem_of(text, forced=forced)
    if problem:
        raise _invalid(where, problem)
    return canonical(text)


def _fields(paths: Iterable[str], known: Mapping[str, str]) -> list[str]:
    found = []
    for path in paths:
        if path not in known:
            shown = path[:100]
            raise GatewayError(
                errors_pb2.ERROR_REASON_INVALID_REQUEST,
                f"update_mask names {shown!r}, which cannot be changed; it may name {', '.join(known)}.",
                param="update_mask",
                metadata={"path": shown},
                origin="caller",
            )
        found.append(known[path])
    if not found:
        raise _invalid("update_mask", "must name what to change")
    return found


def _refuse_set(message: Message, names: Iterable[str], where: str) -> None:
    given = {field.name for field, _ in message.ListFields()}
    for name in names:
        if name in given:
            raise _invalid(f"{where}.{name}", "is set by the gateway; leave it out")


def _invalid(param: str, must: str) -> GatewayError:
    return GatewayError(errors_pb2.ERROR_REASON_INVALID_REQUEST, f"{param} {must}.", param=param, origin="caller")


def _duration(seconds: float) -> Duration:
    duration = Duration()
    duration.FromMicroseconds(round(seconds * 1_000_000))
    return duration


def _seconds(duration: Duration) -> float:
    return duration.seconds + duration.nanos / 1e9
