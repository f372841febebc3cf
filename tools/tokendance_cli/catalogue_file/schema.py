"""What may stand in a gateway file, and everything that is wrong with one: told at once, each with its place."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path as FilePath
from typing import Annotated, Any, Literal, get_args

from pydantic import Field, ValidationError, ValidationInfo, field_validator, model_validator

from tokendance_cli.catalogue_file.people_schema import DeclaredOrganization
from tokendance_cli.catalogue_file.positions import Document, Path, Place, Problem, UnreadableError, read_document
from tokendance_server.catalogue_settings import (
    CapSettings,
    DefaultParameters,
    FallbackSettings,
    ForcedParameters,
    ModalityName,
    OrganizationName,
    Tag,
    VisibilityName,
    check_visibility,
)
from tokendance_server.config import ModelName, Name, Seconds, Settings
from tokendance_server.providers.wire_formats import check_kind

_BY_TYPE = {
    "missing": "is missing",
    "string_type": "must be text; put it in quotes",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "tuple_type": "must be a list",
    "dict_type": "must be a mapping of names to values",
    "model_type": "must be a mapping of names to values",
    "model_attributes_type": "must be a mapping of names to values",
    "too_short": "must not be empty",
}


class DeclaredProvider(CapSettings):
    """One entry of `providers`. Times in seconds; caps hold for each credential."""

    name: Name
    kind: Name
    base_url: str = Field(default="", max_length=2048)
    public_label: str = Field(default="", max_length=100)
    credential: str = Field(default="", max_length=512)
    more_credentials: tuple[Annotated[str, Field(max_length=512)], ...] = Field(default=(), max_length=15)
    capabilities: tuple[str, ...] = ()
    extra_headers: dict[str, str] = Field(default_factory=dict)
    connect_timeout_s: Seconds = 5
    first_byte_timeout_s: Seconds = 600
    idle_timeout_s: Seconds = 120
    proxy_url: str = Field(default="", max_length=2048)
    ca_bundle_pem: str = Field(default="", max_length=262_144)
    client_certificate_pem: str = Field(default="", max_length=65_536)
    client_key: str = Field(default="", max_length=512)

    @field_validator("base_url")
    @classmethod
    def _check_base_url(cls, value: str) -> str:
        if value and not value.startswith(("http://", "https://")):
            raise ValueError("must start with http:// or https://")
        return value.rstrip("/")

    @field_validator("credential", "client_key")
    @classmethod
    def _check_credential(cls, value: str) -> str:
        if value and not value.startswith(("env:TOKENDANCE_PROVIDER_", "file:")):
            raise ValueError("must be a reference: env:TOKENDANCE_PROVIDER_… or file:…, never the key itself")
        return value

    @field_validator("more_credentials")
    @classmethod
    def _check_more_credentials(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for one in value:
            cls._check_credential(one)
        return value

    @field_validator("proxy_url")
    @classmethod
    def _check_proxy_url(cls, value: str) -> str:
        if value and not value.startswith("http://"):
            raise ValueError("must start with http://")
        return value.rstrip("/")

    @field_validator("kind")
    @classmethod
    def _check_kind(cls, value: str) -> str:
        check_kind(value)
        return value

    @field_validator("capabilities")
    @classmethod
    def _check_capabilities(cls, value: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        if "kind" in info.data:
            check_kind(info.data["kind"], value)
        return tuple(sorted(set(value)))

    @model_validator(mode="after")
    def _check_whole(self) -> DeclaredProvider:
        if self.kind != "demo" and not self.base_url:
            raise ValueError("base_url is missing")
        if self.kind == "demo" and (self.base_url or self.credential):
            raise ValueError("the built-in demo has no base_url and no credential")
        if self.more_credentials and not self.credential:
            raise ValueError("more_credentials go with a first credential")
        if bool(self.client_key) != bool(self.client_certificate_pem):
            raise ValueError("client_certificate_pem goes with client_key, and neither without the other")
        return self


class DeclaredRoute(CapSettings):
    """One route of a model."""

    provider: Name
    upstream_model: ModelName
    weight: int = Field(default=1, ge=1, le=1000)
    priority: int = Field(default=0, ge=0, le=1000)
    tags: tuple[Tag, ...] = Field(default=(), max_length=32)
    default_parameters: DefaultParameters = Field(default_factory=dict)
    forced_parameters: ForcedParameters = Field(default_factory=dict)


class DeclaredModel(Settings):
    """One entry of `models`."""

    name: ModelName
    aliases: tuple[ModelName, ...] = Field(default=(), max_length=100)
    routes: tuple[DeclaredRoute, ...] = Field(min_length=1, max_length=100)
    display_name: str = Field(default="", max_length=200)
    description: str = Field(default="", max_length=4000)
    context_window: int | None = Field(default=None, ge=1)
    max_output_tokens: int | None = Field(default=None, ge=1)
    capabilities: tuple[Literal["completions", "embeddings", "tools", "structured_output", "reasoning"], ...] = Field(
        default=("completions",), min_length=1
    )
    supported_parameters: tuple[str, ...] = ()
    availability_note: str = Field(default="", max_length=1000)
    owned_by: str = Field(default="tokendance", min_length=1, max_length=100)
    visibility: VisibilityName = "internal"
    organizations: tuple[OrganizationName, ...] = Field(default=(), max_length=1000)
    input_modalities: tuple[ModalityName, ...] = Field(default=("text",), min_length=1)
    output_modalities: tuple[ModalityName, ...] = Field(default=("text",), min_length=1)
    deprecation_date: date | None = None
    successor: str = Field(default="", max_length=256)
    fallbacks: tuple[FallbackSettings, ...] = Field(default=(), max_length=10)

    @model_validator(mode="after")
    def _check_visibility(self) -> DeclaredModel:
        check_visibility(self.visibility, self.organizations)
        return self

    @field_validator("capabilities")
    @classmethod
    def _can_be_called(cls, capabilities: tuple[str, ...]) -> tuple[str, ...]:
        if not {"completions", "embeddings"} & {*capabilities}:
            raise ValueError("must name completions or embeddings")
        return capabilities


class GatewayFile(Settings):
    """The whole file."""

    providers: tuple[DeclaredProvider, ...] = ()
    models: tuple[DeclaredModel, ...] = ()
    organizations: tuple[DeclaredOrganization, ...] = ()


@dataclass(frozen=True, slots=True)
class Declared:
    """A file without fault, and where everything in it stands."""

    file: str
    content: GatewayFile
    document: Document


class InvalidFileError(Exception):
    """The file cannot be used; `lines` tell every problem with its place."""

    def __init__(self, file: str, problems: list[Problem]) -> None:
        super().__init__(f"{file} is invalid")
        self.lines = [problem.told(file) for problem in sorted(set(problems))]


def read_file(path: FilePath) -> Declared:
    """Read a gateway file. Raises InvalidFileError with everything that is wrong, and OSError."""
    file = str(path)
    try:
        document = read_document(path.read_bytes().decode())
    except UnicodeDecodeError as exc:
        line = exc.object[: exc.start].count(b"\n") + 1
        raise InvalidFileError(file, [Problem(Place(line, 1), "this line is not in UTF-8")]) from exc
    except UnreadableError as exc:
        raise InvalidFileError(file, [exc.problem]) from exc
    problems = [*document.problems, *_clashes(document)]
    if document.value is None:
        problems.append(
            Problem(Place(1, 1), "it is empty; write providers, models or organizations, also as empty lists: []")
        )
    content = GatewayFile()
    try:
        # By way of JSON, because only from there a strict check takes lists for what is kept unchangeable.
        content = GatewayFile.model_validate_json(json.dumps(document.value or {}), strict=True)
    except ValidationError as exc:
        # What cannot be read as a value was told above, and what stands in its place is nobody's.
        told = {problem.place for problem in document.problems}
        problems += [problem for problem in _told(exc, document) if problem.place not in told]
    if problems:
        raise InvalidFileError(file, problems)
    return Declared(file, content, document)


def _told(error: ValidationError, document: Document) -> Iterator[Problem]:
    for mistake in error.errors(include_url=False, include_context=False):
        path: Path = tuple(mistake["loc"])
        kind, last = mistake["type"], str(path[-1]) if path else ""
        if kind == "extra_forbidden":
            yield Problem(document.place_of_key(path), f"there is no key {last}{_meant(path)}")
            continue
        if kind == "too_short" and mistake["input"]:
            continue  # entries that are wrong themselves are told, not that too few are right
        message = _BY_TYPE.get(kind) or mistake["msg"].removeprefix("Value error, ").removeprefix("Input ")
        message = message.replace("should ", "must ", 1)
        if kind != "missing" and path in document.places and mistake.get("input", 0) is None:
            message = "has no value; write one, or leave the key out"
        if kind == "string_pattern_mismatch":
            message = "must be a name: without spaces"
            if path[0] == "providers" or last == "provider":
                message = "must be a name: at most 63 of a-z, 0-9, '.', '_' and '-', a letter or digit first"
        # What is wrong with an entry as a whole names its fields by itself.
        subject = "" if kind == "value_error" and isinstance(path[-1], int) else _subject(path)
        yield Problem(document.place_of(path), f"{subject}{message}")


def _subject(path: Path) -> str:
    match path:
        case (*_, str(name)):
            return f"{name}: "
        case (*_, str(name), int()):
            return f"entry of {name}: "
        case _:
            return ""


def _meant(path: Path) -> str:
    """Return the keys that are there, the likely one first."""
    known = list(_form_at(path[:-1]).model_fields)
    close = difflib.get_close_matches(str(path[-1]), known, n=1)
    return f"; did you mean {close[0]}?" if close else f"; known are {', '.join(known)}"


def _form_at(path: Path) -> type[Settings]:
    """Return what a mapping at a place must look like."""
    form: type[Settings] = GatewayFile
    for step in path:
        field = form.model_fields.get(step) if isinstance(step, str) else None
        if field is not None:
            inner = [one for one in _parts_of(field.annotation) if isinstance(one, type) and issubclass(one, Settings)]
            form = inner[0] if inner else form
    return form


def _parts_of(annotation: Any) -> Iterator[Any]:
    yield annotation
    for one in get_args(annotation):
        yield from _parts_of(one)


def _clashes(document: Document) -> Iterator[Problem]:
    """Yield every name that stands twice, whatever else may be wrong with the entries."""
    providers: dict[str, Path] = {}
    for path, one in _entries(document, "providers"):
        yield from _claim(providers, one.get("name"), (*path, "name"), document)
    models: dict[str, Path] = {}
    for path, one in _entries(document, "models"):
        yield from _claim(models, one.get("name"), (*path, "name"), document)
    for path, one in _entries(document, "models"):
        aliases = one.get("aliases")
        for number, alias in enumerate(aliases if isinstance(aliases, list) else ()):
            yield from _claim(models, alias, (*path, "aliases", number), document)

    organizations: dict[str, Path] = {}
    for path, one in _entries(document, "organizations"):
        yield from _claim(organizations, one.get("display_name"), (*path, "display_name"), document)
        for key, name in (("teams", "display_name"), ("members", "email"), ("members", "subject")):
            taken: dict[str, Path] = {}
            listed = one.get(key)
            for number, part in enumerate(listed if isinstance(listed, list) else ()):
                if isinstance(part, dict) and part.get(name):
                    yield from _claim(taken, part[name], (*path, key, number, name), document)


def _claim(names: dict[str, Path], name: Any, path: Path, document: Document) -> Iterator[Problem]:
    if not isinstance(name, str):
        return
    if name in names:
        line = document.place_of(names[name]).line
        yield Problem(document.place_of(path), f"the name {name} is taken in line {line}")
    else:
        names[name] = path


def _entries(document: Document, key: str) -> Iterator[tuple[Path, dict[str, Any]]]:
    listed = document.value.get(key) if isinstance(document.value, dict) else None
    for number, one in enumerate(listed if isinstance(listed, list) else ()):
        if isinstance(one, dict):
            yield (key, number), one
