"""What a provider and a model of the catalogue must be; refusals name the field in the caller's own request."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from urllib.parse import urlsplit

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import errors_pb2
from tokendance_server.domain.catalogue.entries import Entry, ModelSpec, ProviderSpec
from tokendance_server.domain.catalogue.in_force import SpecError
from tokendance_server.domain.catalogue.models import BELOW, COMPLETIONS, EMBEDDINGS, MODALITIES, Caps
from tokendance_server.domain.catalogue.parameters import problem_of
from tokendance_server.domain.keys.rules import invalid

_TAG = re.compile(r"[!-~]{1,100}")
PROVIDER_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
MODEL_NAME = re.compile(r"[^\s\x00-\x1f\x7f]{1,256}")
CAPABILITIES = (COMPLETIONS, EMBEDDINGS, "tools", "structured_output", "reasoning")

_MODEL = "model_config.model"
_MOST_ALIASES = 100
_MOST_ROUTES = 100
_MOST_HEADERS = 50
_MOST_MORE_CREDENTIALS = 15
_MOST_TAGS = 32
_MOST_FALLBACKS = 10
_MOST_ORGANIZATIONS = 1000
_MOST_PARAMETERS = 100
_MOST_PEM = 262_144
_ORGANIZATION = re.compile(r"organizations/[A-Za-z0-9_-]{1,64}")
_PARAMETER = re.compile(r"[A-Za-z_][A-Za-z0-9_.]{0,63}")
_LONGEST_CREDENTIAL = 8192
_MOST_S = 86_400
# A secret in one of these would be shown to every administrator, and be kept as it is.
_CREDENTIAL_HEADERS = frozenset(
    {"authorization", "proxy-authorization", "x-api-key", "api-key", "x-goog-api-key", "cookie", "set-cookie"}
)
_TEXTS: Mapping[str, int] = {"display_name": 200, "description": 4000, "availability_note": 1000, "owned_by": 100}
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")


def check_provider_name(name: str) -> None:
    """Raise invalid_request for a name that no provider can have."""
    if not PROVIDER_NAME.fullmatch(name):
        raise invalid(
            "provider.name",
            "must be providers/{provider}: at most 63 of a-z, 0-9, '.', '_' and '-', a letter or digit first",
        )


def check_model_name(name: str) -> None:
    """Raise invalid_request for a name that no model can have."""
    if not MODEL_NAME.fullmatch(name):
        raise invalid(f"{_MODEL}.name", "must be models/{model}: 1 to 256 characters without spaces")


def check_provider(spec: ProviderSpec) -> None:
    """Raise invalid_request for what can be seen without asking the node: lengths, times, headers, references."""
    _check_text("provider.public_label", spec.public_label, 100)
    if spec.kind == "demo" and (spec.base_url or spec.credential_reference or spec.sealed_credential):
        raise invalid("provider.base_url", "must be empty for the built-in demo, and so must its credential")
    if spec.credential_reference and spec.sealed_credential:
        raise invalid("provider.credential", "must be left out where credential_reference says where it is")
    if spec.credential_reference:
        _check_reference(spec.credential_reference, "provider.credential_reference")
    _check_more_credentials(spec)
    _check_certificates(spec)
    _check_caps(spec.caps, "provider")
    for name in ("connect_timeout", "first_byte_timeout", "idle_timeout"):
        if not 0 < getattr(spec, f"{name}_s") <= _MOST_S:
            raise invalid(f"provider.{name}", f"must be more than 0 and at most {_MOST_S} s")
    if len(spec.extra_headers) > _MOST_HEADERS:
        raise invalid("provider.extra_headers", f"must be at most {_MOST_HEADERS}")
    for name in spec.extra_headers:
        if name.lower() in _CREDENTIAL_HEADERS:
            raise invalid("provider.extra_headers", f"must hold no secret, as {name.lower()} does; use a credential")


def check_credential(credential: str) -> None:
    """Raise invalid_request for what no provider takes as a credential; it is not repeated."""
    if not 1 <= len(credential) <= _LONGEST_CREDENTIAL or not credential.isascii() or not credential.isprintable():
        raise invalid("provider.credential", f"must be 1 to {_LONGEST_CREDENTIAL:,} printable ASCII characters")


def refuse_spec(error: SpecError) -> GatewayError:
    """Return the refusal of a provider that this node cannot build as it is written."""
    field = {"credential": "credential_reference"}.get(error.field, error.field)
    return invalid(f"provider.{field}", f"cannot be used: {error}")


def check_model(name: str, spec: ModelSpec, providers: Iterable[str]) -> None:
    """Raise invalid_request for a model that cannot be; `providers` are those that a route may lead to."""
    for field, length in _TEXTS.items():
        _check_text(f"{_MODEL}.{field}", getattr(spec, field), length)
    for field in ("context_window", "max_output_tokens"):
        count = getattr(spec, field)
        if count is not None and count < 1:
            raise invalid(f"{_MODEL}.{field}", "must be 1 or more, or left out")
    if len(spec.aliases) > _MOST_ALIASES:
        raise invalid(f"{_MODEL}.aliases", f"must be at most {_MOST_ALIASES}")
    for number, alias in enumerate(spec.aliases):
        if not MODEL_NAME.fullmatch(alias):
            raise invalid(f"{_MODEL}.aliases[{number}]", "must be 1 to 256 characters without spaces")
        if "*" in alias and (not alias.endswith(BELOW) or alias.count("*") > 1 or len(alias) == len(BELOW)):
            raise invalid(f"{_MODEL}.aliases[{number}]", "may have one *, and only as prefix/*")
        if alias == name or alias in spec.aliases[:number]:
            raise invalid(f"{_MODEL}.aliases[{number}]", f"repeats the name {alias!r}")
    if not {COMPLETIONS, EMBEDDINGS} & {*spec.capabilities}:
        raise invalid(f"{_MODEL}.capabilities", f"must name {COMPLETIONS} or {EMBEDDINGS}")
    _check_public_fields(name, spec)
    _check_routes(spec, {*providers})
    _check_fallbacks(name, spec)


def check_names_free(name: str, spec: ModelSpec, others: Callable[[], Iterator[tuple[str, Entry[ModelSpec]]]]) -> None:
    """Raise already_exists where another model has the name or an alias; `others` yields every model."""
    wanted = {name: f"{_MODEL}.name"} | {alias: f"{_MODEL}.aliases[{n}]" for n, alias in enumerate(spec.aliases)}
    for other, entry in others():
        if other == name:
            continue
        for taken in (other, *entry.spec.aliases):
            if taken in wanted:
                raise GatewayError(
                    errors_pb2.ERROR_REASON_ALREADY_EXISTS,
                    f"The name {taken!r} belongs to the model {other!r}; choose another, or take it from there first.",
                    param=wanted[taken],
                    metadata={"name": taken, "model": other},
                    origin="caller",
                )


def origin_of(base_url: str) -> tuple[str, str, int | None]:
    """Return scheme, host and port of an address; of one that is none, what stands for itself alone."""
    try:
        parts = urlsplit(base_url)
        scheme = parts.scheme.lower()
        return scheme, (parts.hostname or "").lower(), parts.port or {"http": 80, "https": 443}.get(scheme)
    except ValueError:
        return "", base_url, None


def _check_public_fields(name: str, spec: ModelSpec) -> None:
    for field in ("input_modalities", "output_modalities"):
        listed = getattr(spec, field)
        if len({*listed}) < len(listed) or not {*listed} <= {*MODALITIES}:
            raise invalid(f"{_MODEL}.{field}", f"must be some of {', '.join(MODALITIES)}, each once")
    if len(spec.supported_parameters) > _MOST_PARAMETERS:
        raise invalid(f"{_MODEL}.supported_parameters", f"must be at most {_MOST_PARAMETERS}")
    for number, parameter in enumerate(spec.supported_parameters):
        if not _PARAMETER.fullmatch(parameter):
            raise invalid(f"{_MODEL}.supported_parameters[{number}]", "must be the name of a field")
    if spec.successor and (spec.successor == name or not MODEL_NAME.fullmatch(spec.successor)):
        raise invalid(f"{_MODEL}.successor", "must be the name of another model, or left out")
    if len(spec.organizations) > _MOST_ORGANIZATIONS:
        raise invalid("model_config.organizations", f"must be at most {_MOST_ORGANIZATIONS}")
    for number, organization in enumerate(spec.organizations):
        if not _ORGANIZATION.fullmatch(organization):
            raise invalid(f"model_config.organizations[{number}]", "must be organizations/{organization}")
    if spec.organizations and spec.public:
        raise invalid("model_config.organizations", "go with the visibility by organization")


def _check_routes(spec: ModelSpec, providers: set[str]) -> None:
    if not 1 <= len(spec.routes) <= _MOST_ROUTES:
        raise invalid("model_config.routes", f"must be 1 to {_MOST_ROUTES}")
    for number, route in enumerate(spec.routes):
        where = f"model_config.routes[{number}]"
        if route.provider not in providers:
            raise GatewayError(
                errors_pb2.ERROR_REASON_INVALID_REQUEST,
                f"There is no provider {route.provider!r}; create it first.",
                param=f"{where}.provider",
                metadata={"provider": route.provider},
                origin="caller",
            )
        if not MODEL_NAME.fullmatch(route.upstream_model):
            raise invalid(f"{where}.upstream_model", "must be 1 to 256 characters without spaces")
        if not 1 <= route.weight <= 1000:
            raise invalid(f"{where}.weight", "must be 1 to 1,000")
        if not 0 <= route.priority <= 1000:
            raise invalid(f"{where}.priority", "must be 0 to 1,000")
        _check_tags(route.tags, f"{where}.tags")
        _check_caps(route.caps, where)
        for field, forced in (("default_parameters", False), ("forced_parameters", True)):
            problem = problem_of(getattr(route, field), forced=forced)
            if problem:
                raise invalid(f"{where}.{field}_json", problem)


def _check_reference(reference: str, param: str) -> None:
    if not reference.startswith(("env:TOKENDANCE_PROVIDER_", "file:")):
        # Not repeated: it may be the key itself.
        raise invalid(param, "must be env:TOKENDANCE_PROVIDER_… or file:…, never the credential itself")


def _check_certificates(spec: ProviderSpec) -> None:
    for field in ("ca_bundle_pem", "client_certificate_pem"):
        if len(getattr(spec, field)) > _MOST_PEM:
            raise invalid(f"provider.{field}", f"must be at most {_MOST_PEM:,} characters")
        if "PRIVATE KEY" in getattr(spec, field):
            raise invalid(f"provider.{field}", "must hold certificates only; the key goes where its reference says")
    if spec.client_key_reference:
        _check_reference(spec.client_key_reference, "provider.client_key_reference")
    if bool(spec.client_key_reference) != bool(spec.client_certificate_pem):
        raise invalid(
            "provider.client_certificate_pem", "goes with client_key_reference, and neither without the other"
        )
    if spec.kind == "demo" and (spec.proxy_url or spec.ca_bundle_pem or spec.client_certificate_pem):
        raise invalid("provider.kind", "has no connections: leave out proxy and certificates")


def _check_more_credentials(spec: ProviderSpec) -> None:
    more = spec.more_credential_references
    if more and not (spec.credential_reference or spec.sealed_credential):
        raise invalid("provider.more_credential_references", "go with a first credential")
    if len(more) > _MOST_MORE_CREDENTIALS:
        raise invalid("provider.more_credential_references", f"must be at most {_MOST_MORE_CREDENTIALS}")
    for number, reference in enumerate(more):
        _check_reference(reference, f"provider.more_credential_references[{number}]")


def _check_caps(caps: Caps, where: str) -> None:
    for field in dataclasses.fields(caps):
        cap = getattr(caps, field.name)
        if cap is not None and cap < 1:
            raise invalid(f"{where}.{field.name}", "must be 1 or more, or left out")


def _check_tags(tags: Sequence[str], where: str) -> None:
    if len(tags) > _MOST_TAGS:
        raise invalid(where, f"must be at most {_MOST_TAGS}")
    for number, tag in enumerate(tags):
        if not _TAG.fullmatch(tag):
            raise invalid(f"{where}[{number}]", "must be 1 to 100 printable ASCII characters without spaces")


def _check_fallbacks(name: str, spec: ModelSpec) -> None:
    if len(spec.fallbacks) > _MOST_FALLBACKS:
        raise invalid("model_config.fallbacks", f"must be at most {_MOST_FALLBACKS}")
    for number, fallback in enumerate(spec.fallbacks):
        where = f"model_config.fallbacks[{number}].model"
        if not MODEL_NAME.fullmatch(fallback.model):
            raise invalid(where, "must be 1 to 256 characters without spaces")
        if fallback.model == name:
            raise invalid(where, "must be another model")


def _check_text(param: str, text: str, length: int) -> None:
    if len(text) > length or _CONTROL.search(text):
        raise invalid(param, f"must be at most {length} characters without control characters")
