"""The catalogue in force: what the node's settings name, and below it what is kept, with the upstreams of both.

It is replaced as a whole whenever what is kept changes. Calls that run keep the one that they began with.
"""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import completion_pb2, errors_pb2
from tokendance_server.domain.catalogue.entries import CatalogueStore, ProviderSpec, Rows
from tokendance_server.domain.catalogue.layers import Layer, combine
from tokendance_server.domain.catalogue.models import NO_CAPS, Caps, ModelIndex, ProviderConfig
from tokendance_server.domain.changes import Change
from tokendance_server.domain.upstream import Upstream, UpstreamCall

_RETRY_S = 0.5


class SpecError(ValueError):
    """A provider cannot be as it is written: `field` of its ProviderSpec is why. The message holds no secret."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


class Upstreams(Protocol):
    """Makes upstreams of providers as written."""

    def configure(self, name: str, spec: ProviderSpec) -> ProviderConfig:
        """Return the provider with its secret resolved. Raises SpecError."""

    def build(self, provider: ProviderConfig) -> Upstream:
        """Return its upstream. Raises SpecError."""


@dataclass(frozen=True, slots=True)
class Seat:
    """One credential of a provider, and the upstream that calls with it. `id` tells it from others, and is not it."""

    id: str
    upstream: Upstream


@dataclass(frozen=True, slots=True)
class Serving:
    """The catalogue with everything that serves it: upstreams and public labels by the provider's name.

    `seats` are all credentials of a provider that can be called, where `upstreams` has the first; `caps` are those of
    each credential of a provider that has any.
    """

    catalog: ModelIndex
    upstreams: Mapping[str, Upstream] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    seats: Mapping[str, Sequence[Seat]] = field(default_factory=dict)
    caps: Mapping[str, Caps] = field(default_factory=dict)


class Catalogue:
    """Holds the catalogue in force. Satisfies ChangeListener.

    `report` is told what cannot be served as written, in sentences for the operator, whenever that changes.
    """

    def __init__(
        self, store: CatalogueStore, settings: Layer, upstreams: Upstreams, report: Callable[[Sequence[str]], None]
    ) -> None:
        self.settings = settings
        self._store = store
        self._upstreams = upstreams
        self._report = report
        self._problems: list[str] = []
        self._built: dict[str, tuple[ProviderConfig, Sequence[Seat]]] = {}
        self._serving = Serving(ModelIndex([], version=0))
        self._reading = asyncio.Lock()
        self._outdated = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def serving(self) -> Serving:
        """The catalogue in force: take it once for each call."""
        return self._serving

    def has(self, model_id: str) -> bool:
        """Tell whether this is the id of a model that is served now."""
        return self._serving.catalog.has(model_id)

    def upstream_of(self, name: str) -> Upstream:
        """Return the upstream of a provider by its name. Raises not_found."""
        upstream = self._serving.upstreams.get(name)
        if upstream is None:
            raise GatewayError(
                errors_pb2.ERROR_REASON_NOT_FOUND,
                f"There is no provider {name!r}.",
                param="provider",
                metadata={"name": f"providers/{name}"},
                origin="caller",
            )
        return upstream

    async def reload(self) -> None:
        """Put what is kept now in force. Raises what the store raises, and then all stays as it was."""
        # One at a time: of two readings, the one that began first may end last.
        async with self._reading:
            self._serve(await self._store.load())

    async def start(self) -> None:
        """Follow the changes until `stop`."""
        self._task = asyncio.create_task(self._follow(), name="catalogue")

    async def stop(self) -> None:
        """End following; harmless where it never began."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
            self._task = None

    def changed(self, change: Change) -> None:
        """Read again."""
        self._outdated.set()

    def everything_changed(self) -> None:
        """Read again."""
        self._outdated.set()

    async def _follow(self) -> None:
        while True:
            await self._outdated.wait()
            self._outdated.clear()
            try:
                await self.reload()
            except Exception as exc:  # noqa: BLE001 - what is served stays, and the next try may succeed
                self._tell([f"the catalogue cannot be read again: {type(exc).__name__}: {exc}"])
                self._outdated.set()
                await asyncio.sleep(_RETRY_S)

    def _serve(self, rows: Rows) -> None:
        combined = combine(self.settings, rows)
        problems = [*combined.problems]
        upstreams: dict[str, Upstream] = {}
        labels: dict[str, str] = {}
        built: dict[str, tuple[ProviderConfig, Sequence[Seat]]] = {}
        for name, spec in combined.providers.items():
            labels[name] = spec.public_label or name
            try:
                built[name] = self._seats(name, spec)
                upstreams[name] = built[name][1][0].upstream
            except SpecError as exc:
                problems.append(f"provider {name!r} cannot be called: {exc}")
                upstreams[name] = UnusableUpstream()
        self._built = built
        self._serving = Serving(
            ModelIndex(combined.models, rows.version),
            upstreams,
            labels,
            {name: seats for name, (_, seats) in built.items()},
            {name: spec.caps for name, spec in combined.providers.items() if spec.caps != NO_CAPS},
        )
        self._tell(problems)

    def _seats(self, name: str, spec: ProviderSpec) -> tuple[ProviderConfig, Sequence[Seat]]:
        config = self._upstreams.configure(name, spec)
        known = self._built.get(name)
        # What an upstream has learnt of its provider stays where the provider stays the same.
        if known and known[0] == config:
            return known
        alone = [
            dataclasses.replace(config, credential=credential, more_credentials=())
            for credential in dict.fromkeys((config.credential, *config.more_credentials))
        ]
        return config, [Seat(_mark(one.credential), self._upstreams.build(one)) for one in alone]

    def _tell(self, problems: list[str]) -> None:
        if problems != self._problems:
            self._problems = problems
            self._report(problems)


def _mark(credential: str) -> str:
    """Return what tells a credential from others; nobody finds it from that, since nobody can guess it."""
    return hashlib.blake2b(credential.encode(), digest_size=8, person=b"credential-mark").hexdigest()


class UnusableUpstream:
    """Stands in for a provider that cannot be built on this node: every call of it is refused."""

    async def complete(
        self, request: completion_pb2.CompletionRequest, call: UpstreamCall
    ) -> completion_pb2.Completion:
        """Refuse."""
        raise _unusable()

    async def stream(
        self, request: completion_pb2.CompletionRequest, call: UpstreamCall
    ) -> AsyncIterator[Sequence[completion_pb2.CompletionEvent]]:
        """Refuse."""
        answers: list[Sequence[completion_pb2.CompletionEvent]] = []  # the loop makes this the generator expected
        for answer in answers:
            yield answer
        raise _unusable()

    async def embed(self, request: completion_pb2.EmbeddingsRequest, call: UpstreamCall) -> completion_pb2.Embeddings:
        """Refuse."""
        raise _unusable()

    def warnings(self, request: completion_pb2.CompletionRequest) -> Sequence[completion_pb2.Warning]:
        """Refuse."""
        raise _unusable()

    async def discover(self, call: UpstreamCall) -> Sequence[str]:
        """Refuse."""
        raise _unusable()


def _unusable() -> GatewayError:
    return GatewayError(
        errors_pb2.ERROR_REASON_PROVIDER_UNAVAILABLE,
        "The model's provider is not set up completely on this node; use another model, or tell the operator.",
        origin="provider",
    )
