"""The Models service over the edge: what administrators may do to the catalogue, and each refusal with its field."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.json_format import MessageToDict
from tests.server.services.edge import AUTHORIZATION
from tests.server.services.office import SECRET, Office, model, opened, provider, refusal

from tokendance.gateway.v1 import models_service_pb2 as pb
from tokendance_server.services.call import Trust


async def test_what_is_created_is_listed_and_served_at_once(office: Office) -> None:
    """Every field comes back, beside what the settings name, and callers see the model."""
    made = await office.provider(
        public_label="Acme",
        credential_reference="file:key",
        capabilities=["no_n"],
        extra_headers={"x-team": "a"},
    )
    assert (made.has_credential, made.read_only) == (True, False)
    assert MessageToDict(made)["connectTimeout"] == "5s"
    created = await office.model(
        aliases=["quick"],
        display_name="Fast",
        context_window=1000,
        capabilities=[pb.MODEL_CAPABILITY_COMPLETIONS, pb.MODEL_CAPABILITY_TOOLS],
        supported_parameters=["seed"],
        owned_by="acme",
        visibility=pb.MODEL_VISIBILITY_PUBLIC,
    )
    listed = await office.stub.ListProviders(pb.ListProvidersRequest())
    assert [(one.name, one.read_only, bool(one.etag)) for one in listed.providers] == [
        ("providers/a", False, True),
        ("providers/fixed", True, False),
    ]
    assert (await office.stub.GetProvider(pb.GetProviderRequest(name="providers/a"))).provider == made
    configs = await office.stub.ListModelConfigs(pb.ListModelConfigsRequest())
    assert configs.catalog_version == 2
    assert configs.model_configs[0] == created
    assert (configs.model_configs[1].model.id, configs.model_configs[1].read_only) == ("settled", True)
    seen = (await office.stub.GetModel(pb.GetModelRequest(name="quick"))).model
    assert (seen.id, seen.display_name, seen.owned_by) == ("fast", "Fast", "acme")
    assert SECRET not in str(configs) + str(listed)


async def test_lists_come_in_pages(office: Office) -> None:
    """Each entry once, in order."""
    await office.provider()
    for number in range(4):
        await office.model(f"m{number}")
    request, seen = pb.ListModelConfigsRequest(page_size=2), []
    while True:
        page = await office.stub.ListModelConfigs(request)
        seen += [one.model.id for one in page.model_configs]
        request.page_token = page.next_page_token
        if not page.next_page_token:
            break
    assert seen == ["m0", "m1", "m2", "m3", "settled"]
    refused = await refusal(office.stub.ListProviders(pb.ListProvidersRequest(page_token="?")))
    assert (refused.code, refused.param) == ("invalid_request", "page_token")


async def test_validate_only_checks_everything_and_changes_nothing(office: Office) -> None:
    """What would be made or changed comes back, and what would be refused is refused, as without it."""
    asked = pb.CreateProviderRequest(provider=provider(), validate_only=True)
    assert (await office.stub.CreateProvider(asked)).provider.base_url == "https://a.example/v1"
    assert (await office.store.load()).version == 0
    asked.provider.base_url = "http://169.254.169.254/"
    refused = await refusal(office.stub.CreateProvider(asked))
    assert (refused.code, refused.param) == ("invalid_request", "provider.base_url")

    kept = await office.provider()
    taken = await refusal(office.stub.CreateProvider(pb.CreateProviderRequest(provider=provider(), validate_only=True)))
    assert taken.code == "already_exists"
    change = pb.UpdateProviderRequest(
        provider=provider(public_label="New"), update_mask=FieldMask(paths=["public_label"]), validate_only=True
    )
    assert (await office.stub.UpdateProvider(change)).provider.public_label == "New"
    change.provider.credential_reference = "env:TOKENDANCE_PROVIDER_NOT_THERE"
    change.update_mask.paths.append("credential_reference")
    refused = await refusal(office.stub.UpdateProvider(change))
    assert (refused.code, refused.param) == ("invalid_request", "provider.credential_reference")
    assert (await office.stub.GetProvider(pb.GetProviderRequest(name="providers/a"))).provider == kept
    assert (await office.store.load()).version == 1


async def test_an_update_changes_what_its_mask_names(office: Office) -> None:
    """Nothing else of the message counts; a version that is not the newest is refused; no change is no new version."""
    await office.provider()
    created = await office.model(aliases=["quick"], description="before")
    wanted = model(aliases=["swift"], description="ignored")
    wanted.etag = created.etag
    changed = await office.change(wanted, "model.aliases")
    assert ([*changed.model.aliases], changed.model.description) == (["swift"], "before")
    assert (await refusal(office.stub.GetModel(pb.GetModelRequest(name="quick")))).code == "model_not_found"
    assert (await office.stub.GetModel(pb.GetModelRequest(name="swift"))).model.id == "fast"
    stale = await refusal(office.change(wanted, "model.description"))
    assert (stale.code, stale.param) == ("version_conflict", "model_config.etag")
    wanted.etag = changed.etag
    assert (await office.change(wanted, "model.aliases")).etag == changed.etag
    missing = await refusal(office.change(model("none"), "routes"))
    assert (missing.code, missing.param) == ("not_found", "model_config.model.name")


@pytest.mark.parametrize(
    ("message", "path", "code"),
    [
        (provider(), "name", "invalid_request"),
        (provider(), "no_such", "invalid_request"),
        (provider(), "has_credential", "invalid_request"),
        (model(), "model", "invalid_request"),
        (model(), "model.prices", "invalid_request"),
        (model(organizations=["organizations/a"]), "organizations", "invalid_request"),
    ],
)
async def test_a_mask_names_only_what_can_be_changed(office: Office, message: Any, path: str, code: str) -> None:
    """The paths of a mask are checked one by one."""
    assert (await refusal(office.change(message, path))).code == code


async def test_another_origin_drops_the_credential_that_is_not_given_anew(office: Office) -> None:
    """A path of the same origin does not; the secret never goes where it was not meant for."""
    await office.provider(credential_reference="file:key")
    same = await office.change(provider(base_url="https://A.example:443/v2/"), "base_url")
    assert (same.base_url, same.credential_reference) == ("https://A.example:443/v2", "file:key")
    moved = await office.change(provider(base_url="https://b.example/v1"), "base_url")
    assert (moved.credential_reference, moved.has_credential) == ("", False)
    wanted = provider(base_url="http://c.example/v1", credential_reference="file:key")
    anew = await office.change(wanted, "base_url", "credential_reference")
    assert anew.credential_reference == "file:key"


async def test_deleting_is_harmless_twice(office: Office) -> None:
    """A provider goes only when no route leads to it."""
    made = await office.provider()
    config = await office.model()
    used = await refusal(office.stub.DeleteProvider(pb.DeleteProviderRequest(name="providers/a")))
    assert (used.code, used.metadata["models"]) == ("failed_precondition", "fast")
    stale = await refusal(office.stub.DeleteModel(pb.DeleteModelRequest(name="models/fast", etag="1-0")))
    assert stale.code == "version_conflict"
    for etags in ((config.etag, made.etag), ("", "")):
        await office.stub.DeleteModel(pb.DeleteModelRequest(name="models/fast", etag=etags[0]))
        await office.stub.DeleteProvider(pb.DeleteProviderRequest(name="providers/a", etag=etags[1]))
    assert (await refusal(office.stub.GetProvider(pb.GetProviderRequest(name="providers/a")))).code == "not_found"
    assert (await office.stub.ListModelConfigs(pb.ListModelConfigsRequest())).catalog_version == 4


async def test_what_the_settings_name_is_changed_by_no_rpc(office: Office) -> None:
    """Neither under its name, nor by taking one of its names."""
    stub = office.stub
    for call in (
        office.provider("fixed"),
        office.change(provider("fixed"), "base_url"),
        stub.DeleteProvider(pb.DeleteProviderRequest(name="providers/fixed")),
        office.model("settled"),
        office.change(model("settled"), "routes"),
        stub.DeleteModel(pb.DeleteModelRequest(name="models/settled")),
    ):
        refused = await refusal(call)
        assert refused.code == "failed_precondition"
        assert "settings file" in refused.message
    await office.provider()
    assert (await refusal(office.model("old"))).code == "already_exists"


async def test_a_repeated_creation_is_harmless_with_its_request_id(office: Office) -> None:
    """Another wish under the same id is a conflict, and the same name under another id is taken."""
    request = pb.CreateProviderRequest(provider=provider(), request_id="r1")
    first = (await office.stub.CreateProvider(request)).provider
    assert (await office.stub.CreateProvider(request)).provider == first
    request.provider.public_label = "Other"
    assert (await refusal(office.stub.CreateProvider(request))).code == "idempotency_conflict"
    request.request_id = "r2"
    taken = await refusal(office.stub.CreateProvider(request))
    assert (taken.code, taken.param) == ("already_exists", "provider.name")


@pytest.mark.parametrize(
    ("wanted", "param", "code"),
    [
        (provider("Open AI"), "provider.name", "invalid_request"),
        (provider(""), "provider.name", "invalid_request"),
        (provider(kind="azure"), "provider.kind", "invalid_request"),
        (provider(base_url="http://169.254.169.254/"), "provider.base_url", "invalid_request"),
        (provider(base_url="http://10.0.0.1/v1"), "provider.base_url", "invalid_request"),
        (provider(base_url="https://me:canary@a.example"), "provider.base_url", "invalid_request"),
        (provider(base_url=""), "provider.base_url", "invalid_request"),
        (provider(kind="demo"), "provider.base_url", "invalid_request"),
        (provider(credential="two words\n"), "provider.credential", "invalid_request"),
        (provider(credential="größe"), "provider.credential", "invalid_request"),
        (provider(credential=SECRET, credential_reference="file:key"), "provider.credential", "invalid_request"),
        (provider(credential=SECRET, base_url="https://a.example:99999"), "provider.base_url", "invalid_request"),
        (provider(credential=SECRET, kind="demo", base_url=""), "provider.base_url", "invalid_request"),
        (provider(credential_reference=SECRET), "provider.credential_reference", "invalid_request"),
        (provider(credential_reference="env:HOME"), "provider.credential_reference", "invalid_request"),
        (provider(credential_reference="file:../key"), "provider.credential_reference", "invalid_request"),
        (provider(credential_reference="file:none"), "provider.credential_reference", "invalid_request"),
        (
            provider(credential_reference="env:TOKENDANCE_PROVIDER_NO"),
            "provider.credential_reference",
            "invalid_request",
        ),
        (provider(capabilities=["nope"]), "provider.capabilities", "invalid_request"),
        (provider(extra_headers={"Authorization": SECRET}), "provider.extra_headers", "invalid_request"),
        (provider(extra_headers={"host": "x"}), "provider.extra_headers", "invalid_request"),
        (provider(connect_timeout={"seconds": -1}), "provider.connect_timeout", "invalid_request"),
        (provider(proxy_url="http://10.0.0.1:3128"), "provider.proxy_url", "invalid_request"),
        (provider(proxy_url="https://proxy.example:3128"), "provider.proxy_url", "invalid_request"),
        (provider(ca_bundle_pem="no certificate"), "provider.ca_bundle_pem", "invalid_request"),
        (provider(ca_bundle_pem="-----BEGIN PRIVATE KEY-----"), "provider.ca_bundle_pem", "invalid_request"),
        (provider(client_certificate_pem="alone"), "provider.client_certificate_pem", "invalid_request"),
        (
            provider(client_certificate_pem="x", client_key_reference="file:key"),
            "provider.client_certificate_pem",
            "invalid_request",
        ),
        (
            provider(client_certificate_pem="x", client_key_reference="file:gone"),
            "provider.client_key_reference",
            "invalid_request",
        ),
        (
            provider(client_certificate_pem="x", client_key_reference=SECRET),
            "provider.client_key_reference",
            "invalid_request",
        ),
        (provider(etag="x"), "provider.etag", "invalid_request"),
    ],
)
async def test_a_provider_that_cannot_be_is_refused(office: Office, wanted: pb.Provider, param: str, code: str) -> None:
    """With the field at fault, and never with a secret."""
    refused = await refusal(office.stub.CreateProvider(pb.CreateProviderRequest(provider=wanted)))
    assert (refused.code, refused.param) == (code, param)
    assert SECRET not in refused.message
    assert "canary" not in refused.message
    assert (await office.store.load()).version == 0


def _route(**fields: Any) -> list[pb.Route]:
    return [pb.Route(**{"provider": "providers/a", "upstream_model": "up", **fields})]


@pytest.mark.parametrize(
    ("wanted", "param", "code"),
    [
        (model("with space"), "model_config.model.name", "invalid_request"),
        (model("a", id="b"), "model_config.model.id", "invalid_request"),
        (model(routes=[]), "model_config.routes", "invalid_request"),
        (model(routes=_route(provider="providers/none")), "model_config.routes[0].provider", "invalid_request"),
        (model(routes=_route(weight=2000)), "model_config.routes[0].weight", "invalid_request"),
        (model(routes=_route(priority=-1)), "model_config.routes[0].priority", "invalid_request"),
        (model(routes=_route(tags=["two words"])), "model_config.routes[0].tags[0]", "invalid_request"),
        (
            model(routes=_route(forced_parameters_json="[]")),
            "model_config.routes[0].forced_parameters_json",
            "invalid_request",
        ),
        (model(aliases=["x", "x"]), "model_config.model.aliases[1]", "invalid_request"),
        (model(aliases=["x", "quick"]), "model_config.model.aliases[1]", "already_exists"),
        (model(aliases=["taken"]), "model_config.model.aliases[0]", "already_exists"),
        (model("taken"), "model_config.model.name", "already_exists"),
        (model("quick"), "model_config.model.name", "already_exists"),
        (model(context_window=0), "model_config.model.context_window", "invalid_request"),
        (model(capabilities=[pb.MODEL_CAPABILITY_TOOLS]), "model_config.model.capabilities", "invalid_request"),
        (model(successor="fast"), "model_config.model.successor", "invalid_request"),
        (model(aliases=["a*b"]), "model_config.model.aliases[0]", "invalid_request"),
        (model(aliases=["/*"]), "model_config.model.aliases[0]", "invalid_request"),
        (model(supported_parameters=["two words"]), "model_config.model.supported_parameters[0]", "invalid_request"),
        (model(visibility=pb.MODEL_VISIBILITY_ORGANIZATIONS), "model_config.organizations", "invalid_request"),
        (
            model(visibility=pb.MODEL_VISIBILITY_ORGANIZATIONS, organizations=["Acme"]),
            "model_config.organizations[0]",
            "invalid_request",
        ),
        (
            model(routes=_route(default_parameters_json='{"model":"dearer"}')),
            "model_config.routes[0].default_parameters_json",
            "invalid_request",
        ),
        (model(display_name="\x1b[2J"), "model_config.model.display_name", "invalid_request"),
    ],
)
async def test_a_model_that_cannot_be_is_refused(office: Office, wanted: pb.ModelConfig, param: str, code: str) -> None:
    """With the field at fault; names belong to one model."""
    await office.provider()
    await office.model("taken", aliases=["quick"])
    refused = await refusal(office.stub.CreateModel(pb.CreateModelRequest(model_config=wanted)))
    assert (refused.code, refused.param) == (code, param)


async def test_an_upstream_is_asked_for_its_models(office: Office) -> None:
    """The demo answers by itself; a provider that is not there is told."""
    answer = await office.stub.DiscoverModels(pb.DiscoverModelsRequest(provider="providers/fixed"))
    assert [*answer.upstream_models] == ["demo-echo"]
    refused = await refusal(office.stub.DiscoverModels(pb.DiscoverModelsRequest(provider="providers/none")))
    assert (refused.code, refused.param) == ("not_found", "provider")


Ask = Callable[[Any], Any]


@pytest.mark.parametrize(
    "ask",
    [
        lambda stub: stub.ListModelConfigs(pb.ListModelConfigsRequest(), metadata=(AUTHORIZATION,)),
        lambda stub: stub.ListProviders(pb.ListProvidersRequest(), metadata=(AUTHORIZATION,)),
        lambda stub: stub.CreateProvider(pb.CreateProviderRequest(provider=provider()), metadata=(AUTHORIZATION,)),
        lambda stub: stub.DeleteModel(pb.DeleteModelRequest(name="models/settled"), metadata=(AUTHORIZATION,)),
    ],
)
async def test_the_holder_of_a_key_sees_and_changes_nothing_of_it(ask: Ask, tmp_path: Path) -> None:
    """Addresses and references are for administrators."""
    async with opened(tmp_path, trust=Trust.NETWORK) as office:
        assert (await refusal(ask(office.stub))).code == "api_key_not_accepted"
