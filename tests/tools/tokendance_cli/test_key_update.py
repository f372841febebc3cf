"""From words to the change of a key that is asked for."""

import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from tokendance.gateway.v1 import keys_service_pb2 as pb
from tokendance.gateway.v1 import quota_pb2 as q
from tokendance_cli.failures import CommandError
from tokendance_cli.key_update import Words, key_update, overlap_of

KEY = pb.Key(name="organizations/o/keys/k", team="organizations/o/teams/t", purpose="old")


def test_only_what_was_said_is_changed() -> None:
    """Ids become names of the key's own organization; the mask has a path for each word and no other."""
    words = Words(
        purpose="New",
        owner="ann",
        rotated_by="organizations/o/members/bob",
        rotation_days=30,
        limits=["requests/minute=5"],
        models=["a", "b"],
        labels=["x=y", "z="],
        expires="2100-01-31",
        clear=["networks"],
    )
    request = key_update(KEY, words, '"7"')
    assert sorted(request.update_mask.paths) == [
        "allowed_models",
        "allowed_networks",
        "expire_time",
        "labels",
        "owner",
        "purpose",
        "quota",
        "rotation.period",
        "rotation.responsible",
    ]
    key = request.key
    assert (key.name, key.etag, key.purpose, key.owner) == (KEY.name, '"7"', "New", "organizations/o/members/ann")
    assert (key.rotation.responsible, key.rotation.period.seconds) == ("organizations/o/members/bob", 30 * 86_400)
    assert key.quota.limits.rules[0].metric == q.LIMIT_METRIC_REQUESTS
    assert (list(key.allowed_models), list(key.allowed_networks)) == (["a", "b"], [])
    assert dict(key.labels) == {"x": "y", "z": ""}
    assert key.expire_time.ToJsonString() == "2100-01-31T00:00:00Z"


@pytest.mark.parametrize(
    ("words", "source"),
    [
        (Words(inherit_quota="team"), "organizations/o/teams/t"),
        (Words(inherit_quota="team", team="new"), "organizations/o/teams/new"),
        (Words(inherit_quota="organization"), "organizations/o"),
        (Words(inherit_quota="a/b"), "a/b"),
    ],
)
def test_quota_may_come_from_the_team_that_the_key_will_have(words: Words, source: str) -> None:
    """A key that moves to another team takes that team's quota."""
    assert key_update(KEY, words, "").key.quota.inherited_from == source


@pytest.mark.parametrize(
    ("name", "path"),
    [("models", "allowed_models"), ("networks", "allowed_networks"), ("labels", "labels"), ("expiry", "expire_time")],
)
def test_what_is_cleared_is_in_the_mask_and_nowhere_else(name: str, path: str) -> None:
    """Said twice is said once."""
    request = key_update(KEY, Words(clear=[name, name]), "")
    assert request == pb.UpdateKeyRequest(key=pb.Key(name=KEY.name), update_mask=FieldMask(paths=[path]))


@pytest.mark.parametrize(
    "words",
    [
        Words(),
        Words(inherit_quota="team", limits=["requests/minute=5"]),
        Words(limits=["requests"]),
        Words(labels=["bare"]),
        Words(expires="soon"),
        Words(clear=["purpose"]),
        Words(models=["a"], clear=["models"]),
    ],
)
def test_words_that_make_no_sense_are_wrong_usage(words: Words) -> None:
    """Nothing is guessed."""
    with pytest.raises(CommandError) as caught:
        key_update(KEY, words, "")
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("text", "seconds"), [("0", 0), ("0s", 0), ("90s", 90), ("30m", 1800), ("24h", 86_400), ("7d", 604_800)]
)
def test_an_overlap_is_a_number_with_its_unit(text: str, seconds: int) -> None:
    """Only nothing needs no unit."""
    assert overlap_of(text).total_seconds() == seconds


@pytest.mark.parametrize("text", ["", "5", "-1h", "1.5h", "1w", "h", "24 h", "٣h\n", "99999999d"])
def test_another_overlap_is_wrong_usage(text: str) -> None:
    """A forgotten unit is not taken for seconds."""
    with pytest.raises(CommandError) as caught:
        overlap_of(text)
    assert caught.value.exit_code == 2
