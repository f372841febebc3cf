"""Which models a caller may know of."""

from __future__ import annotations

from tokendance.gateway.v1 import access_pb2
from tokendance_server.domain.catalogue.models import Model, ModelIndex, Route
from tokendance_server.domain.principals import Principal

ROUTES = (Route("demo", "demo-echo"),)
INDEX = ModelIndex([Model("open", ROUTES), Model("inside", ROUTES, public=False)])


def test_a_caller_without_a_credential_sees_public_models_only() -> None:
    """The public list is for everybody; the others are for keys."""
    nobody = Principal(kinds=frozenset({access_pb2.CALLER_KIND_ANYONE}), name="")
    assert [model.id for model in INDEX.visible_to(nobody)] == ["open"]


def test_a_key_without_a_choice_of_models_sees_them_all() -> None:
    """Internal models are every key's."""
    key = Principal(kinds=frozenset({access_pb2.CALLER_KIND_API_KEY}), name="key")
    assert [model.id for model in INDEX.visible_to(key)] == ["inside", "open"]
