"""Resource names, to and from ids."""

from __future__ import annotations

import pytest

from tokendance.errors import GatewayError
from tokendance.ids import new_id
from tokendance_server.domain.names import child_name, child_of, key_of, organization_name, organization_of

# Fixed, because names of tests are made of them, and several processes must agree on those.
ORGANIZATION, KEY = "org_01h455vb4pex5vsknk084sn02q", "key_01h455vb4pex5vsknk084sn02r"


def test_names_come_back_as_the_ids_that_made_them() -> None:
    """Writing and reading are each other's inverse."""
    assert organization_of(organization_name(ORGANIZATION), "parent") == ORGANIZATION
    for collection, prefix in (("keys", "key"), ("teams", "team"), ("members", "user")):
        child = new_id(prefix)
        name = child_name(ORGANIZATION, collection, child)  # type: ignore[arg-type] # mypy widens the literals
        assert child_of(name, collection, "x") == (ORGANIZATION, child)  # type: ignore[arg-type] # as above


def test_a_key_is_named_in_full_or_by_its_id() -> None:
    """The id alone is enough, because ids are never used twice."""
    assert key_of(child_name(ORGANIZATION, "keys", KEY), "name") == (ORGANIZATION, KEY)
    assert key_of(KEY, "name") == ("", KEY)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "organizations/",
        "organizations/-",
        f"organizations/{ORGANIZATION}/",
        f"organizations/{ORGANIZATION}\n",
        f"organizations/{ORGANIZATION.upper()}",
        f"organizations/{KEY}",
        f"organizations/{ORGANIZATION}' OR 1=1 --",
        "organizations/org_%",
        ORGANIZATION,
    ],
)
def test_another_form_is_refused_with_the_field_and_the_form(name: str) -> None:
    """The caller learns which field and what it should look like."""
    with pytest.raises(GatewayError) as caught:
        organization_of(name, "parent")
    assert caught.value.code == "invalid_request"
    assert caught.value.param == "parent"
    assert "organizations/{organization}" in caught.value.message


@pytest.mark.parametrize(
    "name",
    [
        f"organizations/{ORGANIZATION}/teams/user_01h455vb4pex5vsknk084sn02s",
        f"organizations/{ORGANIZATION}/members/team_01h455vb4pex5vsknk084sn02t",
    ],
)
def test_a_team_is_not_taken_for_a_member(name: str) -> None:
    """The id's prefix has to fit the collection."""
    with pytest.raises(GatewayError, match="members"):
        child_of(name, "members", "key.owner")
