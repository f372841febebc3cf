"""What the Models service keeps of routing: tags, caps, fallbacks, and a provider's further credentials."""

from __future__ import annotations

import json

import pytest
from tests.server.services.office import SECRET, Office, model, provider, refusal

from tokendance.gateway.v1 import models_service_pb2 as pb
from tokendance_server.domain.catalogue.entries import document_of, read_model, read_provider
from tokendance_server.services.catalogue_messages import new_model, new_provider


def config(*fallbacks: pb.Fallback) -> pb.ModelConfig:
    """A model with a route that has everything."""
    route = pb.Route(
        provider="providers/a",
        upstream_model="up",
        weight=2,
        priority=1,
        tags=["region:eu", "trains-on-data"],
        max_concurrent_requests=3,
        max_tokens_per_minute=1000,
    )
    wanted = model("fast", routes=[route])
    wanted.fallbacks.extend(fallbacks)
    return wanted


async def test_what_routing_needs_comes_back_as_it_was_given(office: Office) -> None:
    """Absent caps stay absent, and the order of fallbacks stays theirs."""
    await office.provider(
        credential_reference="file:key", more_credential_references=["file:key"], max_requests_per_minute=7
    )
    wanted = config(
        pb.Fallback(model="large", causes=[pb.FALLBACK_CAUSE_CONTEXT_LENGTH]),
        pb.Fallback(model="other"),
    )
    made = (await office.stub.CreateModel(pb.CreateModelRequest(model_config=wanted))).model_config
    assert ([*made.routes], [*made.fallbacks]) == ([*wanted.routes], [*wanted.fallbacks])
    assert not made.routes[0].HasField("max_requests_per_minute")


async def test_a_mask_changes_one_cap_and_leaves_the_others(office: Office) -> None:
    """And an empty list takes the further credentials away; no answer holds a secret."""
    await office.provider(
        credential_reference="file:key",
        more_credential_references=["file:key"],
        max_requests_per_minute=7,
        max_concurrent_requests=2,
    )
    changed = await office.change(provider(max_requests_per_minute=9), "max_requests_per_minute")
    assert (changed.max_requests_per_minute, changed.max_concurrent_requests) == (9, 2)
    changed = await office.change(provider(), "max_concurrent_requests", "more_credential_references")
    assert not changed.HasField("max_concurrent_requests")
    assert (changed.max_requests_per_minute, [*changed.more_credential_references]) == (9, [])
    assert SECRET not in str(changed)


async def test_another_origin_drops_the_further_credentials_too(office: Office) -> None:
    """They were not meant for it."""
    await office.provider(credential_reference="file:key", more_credential_references=["file:key"])
    wanted = provider(base_url="https://b.example/v1", credential_reference="file:key")
    moved = await office.change(wanted, "base_url", "credential_reference")
    assert (moved.credential_reference, [*moved.more_credential_references]) == ("file:key", [])


@pytest.mark.parametrize(
    ("references", "param"),
    [
        (["sk-secret-itself"], "provider.more_credential_references[0]"),
        (["file:none"], "provider.credential_reference"),
    ],
)
async def test_a_further_credential_is_a_reference_that_can_be_read(
    office: Office, references: list[str], param: str
) -> None:
    """Never the secret itself, which no refusal repeats."""
    wanted = provider(credential_reference="file:key", more_credential_references=references)
    refused = await refusal(office.stub.CreateProvider(pb.CreateProviderRequest(provider=wanted)))
    assert (refused.code, refused.param) == ("invalid_request", param)
    assert "sk-secret" not in str(refused)


async def test_further_credentials_go_with_a_first_one(office: Office) -> None:
    """Otherwise nobody could tell which is which."""
    wanted = provider(more_credential_references=["file:key"])
    refused = await refusal(office.stub.CreateProvider(pb.CreateProviderRequest(provider=wanted)))
    assert refused.param == "provider.more_credential_references"


async def test_a_model_does_not_fall_back_to_itself(office: Office) -> None:
    """With the place at fault."""
    await office.provider()
    wanted = config(pb.Fallback(model="large"), pb.Fallback(model="fast"))
    refused = await refusal(office.stub.CreateModel(pb.CreateModelRequest(model_config=wanted)))
    assert (refused.code, refused.param) == ("invalid_request", "model_config.fallbacks[1].model")


def test_documents_are_read_as_they_were_written() -> None:
    """And those of earlier versions, which know nothing of this, as before."""
    spec = new_model(config(pb.Fallback(model="large", causes=[pb.FALLBACK_CAUSE_UNAVAILABLE])))
    assert read_model(_through_json(document_of(spec))) == spec
    kept = new_provider(provider(credential_reference="file:key", max_tokens_per_minute=5))
    assert read_provider(_through_json(document_of(kept))) == kept
    assert read_provider({"kind": "openai"}).caps.max_tokens_per_minute is None


def _through_json(document: object) -> dict[str, object]:
    read = json.loads(json.dumps(document))
    assert isinstance(read, dict)
    return read
