"""Which models a caller may know of."""

from __future__ import annotations

import pytest

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import access_pb2, errors_pb2
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


def key_of(organization: str, *allowed: str) -> Principal:
    """A key of an organization, perhaps with a choice of models."""
    kinds = frozenset({access_pb2.CALLER_KIND_API_KEY})
    return Principal(kinds=kinds, name="key", organization=organization, allowed_models=frozenset(allowed))


THEIRS = ModelIndex(
    [
        Model("everybodys", ROUTES, aliases=("acme/*", "acme/deep/er/*")),
        Model("theirs", ROUTES, public=False, organizations=frozenset({"organizations/a"})),
        Model("acme/own", ROUTES),
        Model("deep", ROUTES, aliases=("acme/deep/*",)),
    ]
)


def test_a_model_of_some_organizations_is_not_there_for_others() -> None:
    """Neither in the list nor by its name; those of the whole platform see it."""
    assert "theirs" in [model.id for model in THEIRS.visible_to(key_of("organizations/a"))]
    assert "theirs" not in [model.id for model in THEIRS.visible_to(key_of("organizations/b"))]
    assert THEIRS.find("theirs", key_of("organizations/a")).id == "theirs"
    with pytest.raises(GatewayError) as caught:
        THEIRS.find("theirs", key_of("organizations/b"))
    assert caught.value.reason == errors_pb2.ERROR_REASON_MODEL_NOT_FOUND
    admin = Principal(kinds=frozenset({access_pb2.CALLER_KIND_PLATFORM_ADMIN}), name="admin")
    assert THEIRS.find("theirs", admin).id == "theirs"


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("acme/anything", "everybodys"),
        ("acme/own", "acme/own"),
        ("acme/deep/x", "deep"),
        ("acme/deep/er/x", "everybodys"),
        ("acme/deep/x/y/z", "deep"),
        ("acme/", "everybodys"),
    ],
)
def test_the_longest_prefix_wins_and_a_name_of_its_own_before_it(name: str, found: str) -> None:
    """Every name below a prefix means its model, unless it is another model's."""
    assert THEIRS.find(name, key_of("organizations/a")).id == found


@pytest.mark.parametrize("name", ["acme", "acm/x", "other/x", "/x", ""])
def test_what_is_below_no_prefix_is_no_model(name: str) -> None:
    """A prefix ends with its slash."""
    with pytest.raises(GatewayError):
        THEIRS.find(name, key_of("organizations/a"))


def test_a_key_may_name_a_prefix_or_something_below_it() -> None:
    """Either allows the model."""
    for allowed in ("acme/*", "acme/anything", "everybodys"):
        assert THEIRS.find("acme/anything", key_of("organizations/a", allowed)).id == "everybodys"
    with pytest.raises(GatewayError) as caught:
        THEIRS.find("acme/anything", key_of("organizations/a", "deep"))
    assert caught.value.reason == errors_pb2.ERROR_REASON_MODEL_NOT_ALLOWED
