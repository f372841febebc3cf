"""What the Models service tells callers of a model, and to whom; and which way a provider is reached."""

from __future__ import annotations

import json
from pathlib import Path

from tests.certificates import SERVER_NAMES, Authority
from tests.server.services.office import Office, model, provider

from tokendance.gateway.v1 import completion_pb2
from tokendance.gateway.v1 import models_service_pb2 as pb
from tokendance_server.domain.catalogue.entries import document_of, read_model, read_provider
from tokendance_server.services.catalogue_messages import new_model, new_provider


async def test_the_public_fields_come_back_and_are_shown(office: Office) -> None:
    """What is taken and given, until when, and what comes then; text where nothing is said."""
    await office.provider()
    wanted = model(
        input_modalities=[completion_pb2.MODALITY_TEXT, completion_pb2.MODALITY_IMAGE],
        output_modalities=[completion_pb2.MODALITY_AUDIO],
        successor="faster",
        availability_note="Weekdays only.",
        supported_parameters=["seed", "tools"],
        aliases=["acme/*", "quick"],
    )
    wanted.model.deprecate_time.FromSeconds(1_800_000_000)
    made = (await office.stub.CreateModel(pb.CreateModelRequest(model_config=wanted))).model_config
    seen = (await office.stub.GetModel(pb.GetModelRequest(name="acme/whatever/it-is"))).model
    for view in (made.model, seen):
        assert [*view.input_modalities] == [*wanted.model.input_modalities]
        assert [*view.output_modalities] == [completion_pb2.MODALITY_AUDIO]
        assert (view.deprecate_time.seconds, view.successor) == (1_800_000_000, "faster")
        assert [*view.aliases] == ["acme/*", "quick"]
    plain = await office.model("plain")
    assert [*plain.model.input_modalities] == [*plain.model.output_modalities] == [completion_pb2.MODALITY_TEXT]
    changed = await office.change(model(), "model.deprecate_time", "model.successor")
    assert not changed.model.HasField("deprecate_time")


async def test_who_sees_a_model_is_one_choice(office: Office) -> None:
    """By organization or not: whichever of the two fields the mask names, both are as the message says."""
    await office.provider()
    made = await office.model(
        visibility=pb.MODEL_VISIBILITY_ORGANIZATIONS, organizations=["organizations/a", "organizations/a"]
    )
    assert (made.visibility, [*made.organizations]) == (pb.MODEL_VISIBILITY_ORGANIZATIONS, ["organizations/a"])
    changed = await office.change(model(visibility=pb.MODEL_VISIBILITY_PUBLIC), "visibility")
    assert (changed.visibility, [*changed.organizations]) == (pb.MODEL_VISIBILITY_PUBLIC, [])
    wanted = model(visibility=pb.MODEL_VISIBILITY_ORGANIZATIONS, organizations=["organizations/b"])
    changed = await office.change(wanted, "organizations")
    assert (changed.visibility, [*changed.organizations]) == (pb.MODEL_VISIBILITY_ORGANIZATIONS, ["organizations/b"])


async def test_parameters_of_a_route_come_back_compact(office: Office) -> None:
    """In their order; an empty object is none."""
    await office.provider()
    route = pb.Route(
        provider="providers/a",
        upstream_model="up",
        default_parameters_json='{ "top_k": 5, "a": {"b": [1, null]} }',
        forced_parameters_json="{ }",
    )
    made = (await office.stub.CreateModel(pb.CreateModelRequest(model_config=model(routes=[route])))).model_config
    assert made.routes[0].default_parameters_json == '{"top_k":5,"a":{"b":[1,null]}}'
    assert made.routes[0].forced_parameters_json == ""


async def test_a_way_comes_back_without_its_key(office: Office, tmp_path: Path) -> None:
    """The certificate is no secret; of its key only the reference is told."""
    authority = Authority()
    mine = authority.sign(SERVER_NAMES)
    (tmp_path / "client.pem").write_bytes(mine.key)
    fields = {
        "proxy_url": "http://proxy.example:3128",
        "ca_bundle_pem": authority.certificate.decode(),
        "client_certificate_pem": mine.certificate.decode(),
        "client_key_reference": "file:client.pem",
    }
    made = await office.provider(**fields)
    assert {name: getattr(made, name) for name in fields} == fields
    assert mine.key.decode()[40:90] not in str(made)
    changed = await office.change(provider(), "proxy_url", "ca_bundle_pem")
    assert (changed.proxy_url, changed.ca_bundle_pem) == ("", "")
    assert changed.client_certificate_pem == fields["client_certificate_pem"]


def test_documents_are_read_as_they_were_written() -> None:
    """And those of earlier versions, which know nothing of this, as before."""
    wanted = model(
        visibility=pb.MODEL_VISIBILITY_ORGANIZATIONS,
        organizations=["organizations/a"],
        input_modalities=[completion_pb2.MODALITY_IMAGE],
        successor="next",
    )
    wanted.model.deprecate_time.FromSeconds(7)
    wanted.routes[0].default_parameters_json = '{"a":1}'
    spec = new_model(wanted)
    assert read_model(json.loads(json.dumps(document_of(spec)))) == spec
    kept = new_provider(provider(proxy_url="http://p.example:1", client_certificate_pem="c", client_key_reference="r"))
    assert read_provider(json.loads(json.dumps(document_of(kept)))) == kept
    old = read_model({"routes": [{"provider": "a", "upstream_model": "b"}], "public": True})
    assert (old.input_modalities, old.organizations, old.routes[0].default_parameters) == (("text",), (), "")
