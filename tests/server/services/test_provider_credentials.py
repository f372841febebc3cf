"""Credentials of providers over the edge: taken once, kept sealed, and never given back."""

from __future__ import annotations

from tests.server.services.office import SEALS, SECRET, Office, provider, refusal

from tokendance.gateway.v1 import models_service_pb2 as pb


async def test_a_credential_itself_is_kept_sealed(office: Office) -> None:
    """Callable with it, and told of it only that there is one; a repeat is harmless, another one a conflict."""
    request = pb.CreateProviderRequest(provider=provider(credential=SECRET), request_id="r1")
    made = (await office.stub.CreateProvider(request)).provider
    assert (made.has_credential, made.credential, made.credential_reference) == (True, "", "")
    kept = (await office.store.load()).providers["a"].spec
    assert SEALS.open("a", kept) == SECRET
    assert SECRET not in repr(kept)
    assert (await office.stub.CreateProvider(request)).provider == made
    request.provider.credential = "sk-another"
    assert (await refusal(office.stub.CreateProvider(request))).code == "idempotency_conflict"


async def test_a_credential_is_put_in_the_place_of_another(office: Office) -> None:
    """A sealed one for a reference and back, and none for either."""

    async def sealed() -> str:
        return SEALS.open("a", (await office.store.load()).providers["a"].spec)

    await office.provider(credential_reference="file:key")
    changed = await office.change(provider(credential="sk-new"), "credential")
    assert (changed.has_credential, changed.credential_reference, await sealed()) == (True, "", "sk-new")
    changed = await office.change(provider(public_label="New"), "public_label")
    assert (changed.has_credential, await sealed()) == (True, "sk-new")
    changed = await office.change(provider(credential_reference="file:key"), "credential_reference")
    assert (changed.credential_reference, await sealed()) == ("file:key", "")
    await office.change(provider(credential="sk-new"), "credential")
    assert (await office.change(provider(), "credential")).has_credential is False


async def test_a_sealed_credential_does_not_follow_to_another_origin(office: Office) -> None:
    """A changed address drops it, unless it is given anew; another path at the same origin keeps it."""
    await office.provider(credential=SECRET)
    assert (await office.change(provider(base_url="https://a.example/v2"), "base_url")).has_credential is True
    assert (await office.change(provider(base_url="https://evil.example/v1"), "base_url")).has_credential is False
    moved = provider(base_url="https://b.example/v1", credential=SECRET)
    assert (await office.change(moved, "base_url", "credential")).has_credential is True
