"""What the catalogue keeps: providers and models as their administrators wrote them, and who keeps them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Generic, Protocol, TypeVar

from tokendance_server.domain.audit.events import EventDraft
from tokendance_server.domain.catalogue.models import COMPLETIONS, NO_CAPS, TEXT, Caps, Fallback, FallbackCause, Route
from tokendance_server.domain.changes import ChangeKind


@dataclass(frozen=True, slots=True)
class ProviderSpec:
    """A provider as written: times in seconds, certificates in PEM, the credential by reference or sealed.

    A sealed one opens for this provider at this origin only (`sealing_place`).
    """

    kind: str
    base_url: str = ""
    public_label: str = ""
    credential_reference: str = ""
    sealed_credential: str = field(default="", repr=False)
    capabilities: tuple[str, ...] = ()
    extra_headers: Mapping[str, str] = field(default_factory=dict)
    connect_timeout_s: float = 5.0
    first_byte_timeout_s: float = 600.0
    idle_timeout_s: float = 120.0
    total_timeout_s: float = 3600.0
    more_credential_references: tuple[str, ...] = ()
    caps: Caps = NO_CAPS
    proxy_url: str = ""
    ca_bundle_pem: str = ""
    client_certificate_pem: str = ""
    client_key_reference: str = ""


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """A model as written. Token counts are None where not stated; the other fields are those of Model."""

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
    public: bool = False
    fallbacks: tuple[Fallback, ...] = ()
    organizations: tuple[str, ...] = ()
    input_modalities: tuple[str, ...] = (TEXT,)
    output_modalities: tuple[str, ...] = (TEXT,)
    deprecate_time: int | None = None
    successor: str = ""


class EntryKind(StrEnum):
    """The two kinds of entry; the value is the first word of their resource names."""

    PROVIDER = "providers"
    MODEL = "models"


CHANGES = {EntryKind.PROVIDER: ChangeKind.PROVIDER, EntryKind.MODEL: ChangeKind.MODEL}
"""What the feed of changes calls them."""

Spec = TypeVar("Spec", ProviderSpec, ModelSpec)


@dataclass(frozen=True, slots=True)
class Entry(Generic[Spec]):
    """One provider or model. `version` counts its changes from 1; `request_id` is that of its creation.

    Version 0 is what the settings of the node name: it is read only, and nothing is kept of it.
    """

    name: str
    spec: Spec
    create_time: datetime
    update_time: datetime
    version: int = 1
    request_id: str = ""

    @property
    def read_only(self) -> bool:
        """True for what the settings of the node name."""
        return self.version == 0

    @property
    def etag(self) -> str:
        """What tells this version from every other, also of an entry of the same name made later; may be empty."""
        return "" if self.read_only else f"{self.version}-{int(self.create_time.timestamp() * 1_000_000):x}"


AnyEntry = Entry[ProviderSpec] | Entry[ModelSpec]


@dataclass(frozen=True, slots=True)
class Rows:
    """Everything that is kept, at one moment, by name. `version` counts the changes of all of it from 0."""

    version: int = 0
    providers: Mapping[str, Entry[ProviderSpec]] = field(default_factory=dict)
    models: Mapping[str, Entry[ModelSpec]] = field(default_factory=dict)

    def find(self, kind: EntryKind, name: str) -> AnyEntry | None:
        """Return an entry, or None where there is none."""
        return self.providers.get(name) if kind is EntryKind.PROVIDER else self.models.get(name)


@dataclass(frozen=True, slots=True)
class Edit:
    """One change: `entry` takes the place of what has that name, or nothing does, where it is None.

    `event` tells the audit trail of it, where somebody made it.
    """

    kind: EntryKind
    name: str
    time: datetime
    entry: AnyEntry | None
    event: EventDraft | None = None

    @property
    def resource_name(self) -> str:
        """Such as `models/fast`."""
        return f"{self.kind}/{self.name}"


class CatalogueStore(Protocol):
    """Keeps the catalogue. Each method is one transaction."""

    async def load(self) -> Rows:
        """Return everything, as of one moment."""

    async def edit(self, decide: Callable[[Rows], Edit]) -> AnyEntry | None:
        """Make the one change that `decide` chooses in view of everything, record it in the feed, and return its entry.

        Nobody else changes the catalogue in between. An edit that changes nothing is not recorded. What `decide`
        raises comes out, and nothing is changed.
        """


def document_of(spec: ProviderSpec | ModelSpec) -> dict[str, Any]:
    """Return a provider or a model as a JSON document."""
    return dataclasses.asdict(spec)


def read_provider(document: Mapping[str, Any]) -> ProviderSpec:
    """Return the provider of a document; what only a newer version of the gateway writes is passed over."""
    known = _known(document, ProviderSpec)
    lists = {name: tuple(value) for name, value in known.items() if isinstance(value, list)}
    return ProviderSpec(**{**known, **lists, "caps": _caps(known)})


def read_model(document: Mapping[str, Any]) -> ModelSpec:
    """Return the model of a document; what only a newer version of the gateway writes is passed over."""
    known = _known(document, ModelSpec)
    routes = tuple(_route(_known(route, Route)) for route in known.pop("routes", ()))
    fallbacks = tuple(_fallback(one) for one in known.pop("fallbacks", ()))
    lists = {name: tuple(value) for name, value in known.items() if isinstance(value, list)}
    return ModelSpec(routes=routes, fallbacks=fallbacks, **{**known, **lists})


def _route(known: Mapping[str, Any]) -> Route:
    return Route(**{**known, "tags": tuple(known.get("tags", ())), "caps": _caps(known)})


def _caps(known: Mapping[str, Any]) -> Caps:
    return Caps(**_known(known.get("caps", {}), Caps))


def _fallback(document: Mapping[str, Any]) -> Fallback:
    causes = [one for one in document.get("causes", ()) if one in [*FallbackCause]]
    return Fallback(document["model"], tuple(map(FallbackCause, causes)))


def _known(document: Mapping[str, Any], kind: type) -> dict[str, Any]:
    names = {one.name for one in dataclasses.fields(kind)}
    return {name: value for name, value in document.items() if name in names}
