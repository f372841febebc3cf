"""The catalogue in force: its two layers, how it follows what is kept, and what of an upstream stays."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from tests.server.domain.meters import unlimited_meter
from tests.server.domain.routing.routers import router_of

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import completion_pb2
from tokendance_server.domain.catalogue.entries import Edit, Entry, EntryKind, ModelSpec, ProviderSpec, Rows
from tokendance_server.domain.catalogue.in_force import Catalogue, SpecError, UnusableUpstream
from tokendance_server.domain.catalogue.layers import Layer, combine
from tokendance_server.domain.catalogue.models import ProviderConfig, Route
from tokendance_server.domain.changes import ChangeKind, Watcher
from tokendance_server.domain.clock import ManualClock
from tokendance_server.domain.completions import Completions
from tokendance_server.domain.principals import Principal
from tokendance_server.domain.upstream import Upstream, UpstreamCall
from tokendance_server.stores.memory import MemoryCatalogueStore

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
ANYBODY = Principal(kinds=frozenset(), name="anybody")
PROVIDER = ProviderSpec(kind="fake", credential_reference="one")
MODEL = ModelSpec(routes=(Route("a", "up"),))


class FakeUpstream:
    """Answers with the secret it was built with, once its gate is open."""

    def __init__(self, config: ProviderConfig) -> None:
        self.config = config
        self.gate = asyncio.Event()
        self.gate.set()

    async def complete(
        self, request: completion_pb2.CompletionRequest, call: UpstreamCall
    ) -> completion_pb2.Completion:
        await self.gate.wait()
        return completion_pb2.Completion(extra_json=self.config.credential)

    def warnings(self, request: completion_pb2.CompletionRequest) -> Sequence[completion_pb2.Warning]:
        return ()


class FakeUpstreams:
    """Resolves references in its own secrets, and refuses what it does not have."""

    def __init__(self) -> None:
        self.secrets = {"one": "first", "": ""}
        self.built: list[FakeUpstream] = []

    def configure(self, name: str, spec: ProviderSpec) -> ProviderConfig:
        if spec.credential_reference not in self.secrets:
            raise SpecError("credential", f"{spec.credential_reference} is not set")
        return ProviderConfig(name, spec.kind, credential=self.secrets[spec.credential_reference])

    def build(self, provider: ProviderConfig) -> Upstream:
        upstream: Any = FakeUpstream(provider)
        self.built.append(upstream)
        return upstream  # type: ignore[no-any-return]  # the calls that no test makes are not there


class Desk:
    """A catalogue over a store in memory."""

    def __init__(self, settings: Layer | None = None) -> None:
        self.store = MemoryCatalogueStore()
        self.upstreams = FakeUpstreams()
        self.told: list[Sequence[str]] = []
        self.catalogue = Catalogue(self.store, settings or Layer(), self.upstreams, self.told.append)

    async def put(self, kind: EntryKind, name: str, spec: ProviderSpec | ModelSpec | None, version: int = 1) -> None:
        entry: Any = None if spec is None else Entry(name, spec, NOW, NOW, version)
        await self.store.edit(lambda rows: Edit(kind, name, NOW, entry))

    def names(self) -> list[str]:
        return [model.id for model in self.catalogue.serving.catalog.visible_to(ANYBODY)]


@pytest.fixture
async def desk() -> Desk:
    """One provider and one model, in force."""
    made = Desk()
    await made.put(EntryKind.PROVIDER, "a", PROVIDER)
    await made.put(EntryKind.MODEL, "fast", MODEL)
    await made.catalogue.reload()
    return made


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.005)


async def test_the_demo_is_served_while_nothing_is_named() -> None:
    """And goes as soon as anything is."""
    desk = Desk()
    await desk.catalogue.reload()
    assert desk.names() == ["demo-echo"]
    await desk.put(EntryKind.PROVIDER, "a", PROVIDER)
    await desk.catalogue.reload()
    assert desk.names() == []


async def test_a_change_of_the_feed_is_in_force_soon(desk: Desk) -> None:
    """The watcher tells, and the catalogue is replaced as a whole, with its version."""
    watcher = Watcher(desk.store.changes, ManualClock(NOW), lambda error: None, interval_s=0.01)
    for kind in (ChangeKind.MODEL, ChangeKind.PROVIDER):
        watcher.subscribe(kind, desk.catalogue)
    await desk.catalogue.start()
    await watcher.start()
    before = desk.catalogue.serving
    try:
        await desk.put(EntryKind.MODEL, "slow", MODEL)
        await _until(lambda: desk.names() == ["fast", "slow"])
        await desk.put(EntryKind.MODEL, "fast", None)
        await _until(lambda: desk.names() == ["slow"])
    finally:
        await watcher.stop()
        await desk.catalogue.stop()
    assert desk.catalogue.serving.catalog.version == 4
    assert [model.id for model in before.catalog.visible_to(ANYBODY)] == ["fast"]


async def test_a_call_goes_on_with_the_upstream_that_it_began_with(desk: Desk) -> None:
    """Although the provider is gone from the catalogue meanwhile; the next call finds neither."""
    clock = ManualClock(NOW)
    router = router_of(lambda: desk.catalogue.serving, clock)
    completions = Completions(lambda: desk.catalogue.serving, clock, unlimited_meter(), router)
    caller: Any = SimpleNamespace(
        request_id="r",
        method="",
        deadline=0.0,
        model="",
        upstream_s=0.0,
        ended_by=None,
        identity=ANYBODY,
        surface=0,
        address="",
        caller=None,
    )
    upstream = desk.upstreams.built[0]
    upstream.gate.clear()
    running = asyncio.create_task(completions.create(completion_pb2.CompletionRequest(model="fast"), caller))
    await asyncio.sleep(0)
    await desk.put(EntryKind.MODEL, "fast", None)
    await desk.put(EntryKind.PROVIDER, "a", None)
    await desk.catalogue.reload()
    upstream.gate.set()
    assert (await running).extra_json == "first"
    with pytest.raises(GatewayError) as caught:
        await completions.create(completion_pb2.CompletionRequest(model="fast"), caller)
    assert caught.value.code == "model_not_found"


async def test_an_unchanged_provider_keeps_its_upstream(desk: Desk) -> None:
    """A changed one, and one whose secret was changed, get a new one."""
    await desk.put(EntryKind.MODEL, "slow", MODEL)
    await desk.catalogue.reload()
    assert len(desk.upstreams.built) == 1
    desk.upstreams.secrets["one"] = "second"
    await desk.catalogue.reload()
    assert [one.config.credential for one in desk.upstreams.built] == ["first", "second"]


async def test_a_provider_that_this_node_cannot_build_is_refused_and_told(desk: Desk) -> None:
    """The others are served; the operator is told once, and once more when it is whole again."""
    await desk.put(EntryKind.PROVIDER, "b", ProviderSpec(kind="fake", credential_reference="two"))
    await desk.put(EntryKind.MODEL, "broken", ModelSpec(routes=(Route("b", "up"),)))
    await desk.catalogue.reload()
    await desk.catalogue.reload()
    assert desk.names() == ["broken", "fast"]
    assert desk.told == [["provider 'b' cannot be called: two is not set"]]
    request, call = completion_pb2.CompletionRequest(model="broken"), UpstreamCall("up", 0.0, "r")
    broken = desk.catalogue.upstream_of("b")
    assert isinstance(broken, UnusableUpstream)
    for refused in (
        broken.complete(request, call),
        broken.embed(completion_pb2.EmbeddingsRequest(), call),
        broken.discover(call),
        anext(broken.stream(request, call)),
    ):
        with pytest.raises(GatewayError) as caught:
            await refused
        assert caught.value.code == "provider_unavailable"
    with pytest.raises(GatewayError):
        broken.warnings(request)
    desk.upstreams.secrets["two"] = "there"
    await desk.catalogue.reload()
    assert desk.told[1:] == [[]]


async def test_what_is_served_stays_while_the_store_fails(desk: Desk) -> None:
    """It is told once, tried again, and the change is in force when it works."""
    working = desk.store.load

    async def failing() -> Rows:
        raise ConnectionError("gone")

    desk.store.load = failing  # type: ignore[method-assign]
    await desk.put(EntryKind.MODEL, "slow", MODEL)
    await desk.catalogue.start()
    desk.catalogue.everything_changed()
    try:
        await _until(lambda: bool(desk.told))
        assert desk.names() == ["fast"]
        assert desk.told == [["the catalogue cannot be read again: ConnectionError: gone"]]
        desk.store.load = working  # type: ignore[method-assign]
        await _until(lambda: desk.names() == ["fast", "slow"])
    finally:
        await desk.catalogue.stop()
    assert desk.told[1:] == [[]]


async def test_two_readings_never_put_the_older_one_in_force(desk: Desk) -> None:
    """The one that began first may be the slower one."""
    fresh = desk.store.load
    slow = asyncio.Event()
    stale = await fresh()

    async def lagging() -> Rows:
        desk.store.load = fresh  # type: ignore[method-assign]
        await slow.wait()
        return stale

    desk.store.load = lagging  # type: ignore[method-assign]
    first = asyncio.create_task(desk.catalogue.reload())
    await asyncio.sleep(0)
    await desk.put(EntryKind.MODEL, "slow", MODEL)
    second = asyncio.create_task(desk.catalogue.reload())
    await asyncio.sleep(0)
    slow.set()
    await asyncio.gather(first, second)
    assert desk.names() == ["fast", "slow"]


def _rows(models: dict[str, ModelSpec], *providers: str) -> Rows:
    return Rows(
        1,
        {name: Entry(name, PROVIDER, NOW, NOW) for name in providers},
        {name: Entry(name, spec, NOW, NOW) for name, spec in models.items()},
    )


def test_the_settings_win_over_what_is_kept() -> None:
    """By name, and by alias; everything that is thereby lost is told."""
    settings = Layer({"a": ProviderSpec(kind="demo")}, {"fast": dataclasses.replace(MODEL, aliases=("quick", "old"))})
    kept = {
        "fast": dataclasses.replace(MODEL, display_name="kept"),
        "old": MODEL,
        "other": dataclasses.replace(MODEL, aliases=("quick", "own")),
    }
    combined = combine(settings, _rows(kept, "a", "b"))
    assert combined.providers == {"a": ProviderSpec(kind="demo"), "b": PROVIDER}
    assert {model.id: (model.display_name, model.aliases) for model in combined.models} == {
        "fast": ("", ("quick", "old")),
        "other": ("", ("own",)),
    }
    assert combined.problems == [
        "provider 'a' is named by the settings, which win over what is kept",
        "model 'fast' is named by the settings, which win over what is kept",
        "model 'old' is left out: the settings give its name to another model",
        "model 'other' loses its alias 'quick', which the settings give to another model",
    ]


def test_a_kept_route_whose_provider_left_the_settings_is_left_out() -> None:
    """A model without any other goes with it."""
    kept = {
        "both": ModelSpec(routes=(Route("gone", "x"), Route("a", "y"))),
        "none": ModelSpec(routes=(Route("gone", "x"),)),
    }
    combined = combine(Layer(), _rows(kept, "a"))
    assert [(model.id, [route.provider for route in model.routes]) for model in combined.models] == [("both", ["a"])]
    assert len(combined.problems) == 3
    assert "no route of it is left" in combined.problems[-1]
