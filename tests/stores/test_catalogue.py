"""What every store of the catalogue must do."""

from __future__ import annotations

import asyncio
import dataclasses
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tokendance_server.domain.catalogue.entries import (
    Edit,
    Entry,
    EntryKind,
    ModelSpec,
    ProviderSpec,
    Rows,
    document_of,
    read_model,
    read_provider,
)
from tokendance_server.domain.catalogue.models import Route

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
PROVIDER = ProviderSpec(
    kind="openai",
    base_url="https://a.example/v1",
    public_label="Größe",
    credential_reference="env:TOKENDANCE_PROVIDER_A",
    capabilities=("no_n", "reasoning"),
    extra_headers={"x-team": "a"},
    connect_timeout_s=1.5,
)
MODEL = ModelSpec(
    routes=(Route("a", "up", weight=3, priority=1), Route("a", "other")),
    aliases=("quick", "acme/fast"),
    display_name="Fast",
    context_window=2**40,
    capabilities=("completions", "tools"),
    supported_parameters=("temperature",),
    public=True,
)


def put(kind: EntryKind, name: str, spec: ProviderSpec | ModelSpec, **fields: Any) -> Edit:
    """The edit that makes an entry."""
    entry: Any = Entry(name, spec, NOW, NOW, **fields)
    return Edit(kind, name, NOW, entry)


async def test_an_empty_catalogue_has_nothing(stores: Any) -> None:
    """And its version is that of no change."""
    assert await stores.catalogue.load() == Rows()


async def test_entries_come_back_as_they_were_put(stores: Any) -> None:
    """Every field of them, also those that are seldom used."""
    provider = Entry("a", PROVIDER, NOW, NOW, request_id="r")
    model = Entry("fast", MODEL, NOW, NOW)
    assert await stores.catalogue.edit(lambda rows: Edit(EntryKind.PROVIDER, "a", NOW, provider)) == provider
    assert await stores.catalogue.edit(lambda rows: Edit(EntryKind.MODEL, "fast", NOW, model)) == model
    assert await stores.catalogue.load() == Rows(2, {"a": provider}, {"fast": model})


async def test_each_change_is_told_once_in_its_own_transaction(stores: Any) -> None:
    """Creation, replacement and deletion; not what changes nothing, nor what is refused."""
    first = put(EntryKind.MODEL, "fast", MODEL)
    second = put(EntryKind.MODEL, "fast", dataclasses.replace(MODEL, aliases=()), version=2)
    gone = Edit(EntryKind.MODEL, "fast", NOW + timedelta(days=1), None)
    for edit in (put(EntryKind.PROVIDER, "a", PROVIDER), first, first, second, gone, gone):
        await stores.catalogue.edit(lambda rows, edit=edit: edit)
    with pytest.raises(ValueError, match="no"):
        await stores.catalogue.edit(_refuse)
    told = [(one.kind, one.name, one.organization_id) for one in await stores.changes.since(0, 10)]
    assert told == [("provider", "providers/a", ""), *[("model", "models/fast", "")] * 3]
    rows = await stores.catalogue.load()
    assert (rows.version, [*rows.providers], [*rows.models]) == (4, ["a"], [])


def _refuse(rows: Rows) -> Edit:
    raise ValueError("no")


async def test_a_decision_sees_everything_and_nobody_decides_meanwhile(stores: Any) -> None:
    """Of many that would take the same name, one gets it."""

    def claim(number: int) -> Any:
        def decide(rows: Rows) -> Edit:
            name = f"m{number}"
            taken = any("best" in entry.spec.aliases for entry in rows.models.values())
            return put(EntryKind.MODEL, name, dataclasses.replace(MODEL, aliases=() if taken else ("best",)))

        return decide

    await asyncio.gather(*(stores.catalogue.edit(claim(number)) for number in range(12)))
    rows = await stores.catalogue.load()
    assert (rows.version, len(rows.models)) == (12, 12)
    assert sum("best" in entry.spec.aliases for entry in rows.models.values()) == 1
    assert [*rows.models] == sorted(rows.models)


def test_a_document_of_a_newer_version_is_read() -> None:
    """What it says besides is passed over, and what an older one did not say has its default."""
    assert read_provider(document_of(PROVIDER) | {"later_field": "x"}) == PROVIDER
    assert read_provider({"kind": "demo"}) == ProviderSpec(kind="demo")
    later = document_of(MODEL) | {"prices": []}
    later["routes"] = [route | {"tags": []} for route in later["routes"]]
    assert read_model(later) == MODEL
    assert read_model({"routes": [{"provider": "a", "upstream_model": "b"}]}) == ModelSpec(routes=(Route("a", "b"),))
