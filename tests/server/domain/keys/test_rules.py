"""What a new key must say of itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import quota_pb2 as q
from tokendance.ids import new_id
from tokendance_server.domain.keys.key import KeyDraft, KeyQuota, LimitRule
from tokendance_server.domain.keys.rules import DraftIds, check_draft, fingerprint
from tokendance_server.domain.names import child_name, organization_name

NOW = datetime(2026, 6, 1, tzinfo=UTC)
ORGANIZATION, TEAM, OWNER, KEEPER = new_id("org"), new_id("team"), new_id("user"), new_id("user")
GOOD = KeyDraft(
    purpose="Nightly reports: 夜",
    owner=child_name(ORGANIZATION, "members", OWNER),
    team=child_name(ORGANIZATION, "teams", TEAM),
    quota=KeyQuota(inherited_from=child_name(ORGANIZATION, "teams", TEAM)),
    rotation_period_s=90 * 86_400,
    responsible=child_name(ORGANIZATION, "members", KEEPER),
)
RPM = LimitRule(q.LIMIT_METRIC_REQUESTS, q.LIMIT_WINDOW_MINUTE, 60)


def _limits(*rules: LimitRule) -> KeyQuota:
    return KeyQuota(limits=rules)


def test_a_good_draft_gives_the_ids_that_it_names() -> None:
    """Names are read once, here."""
    assert check_draft(GOOD, ORGANIZATION, NOW) == DraftIds(OWNER, TEAM, KEEPER)


@pytest.mark.parametrize(
    "change",
    [
        {"purpose": "p" * 200},
        {"quota": KeyQuota(inherited_from=organization_name(ORGANIZATION))},
        {"quota": _limits(RPM, replace(RPM, model="demo-echo"), replace(RPM, window=q.LIMIT_WINDOW_DAY))},
        {"quota": _limits(LimitRule(q.LIMIT_METRIC_CONCURRENT_REQUESTS, q.LIMIT_WINDOW_UNSPECIFIED, 0))},
        {"rotation_period_s": 86_400},
        {"rotation_period_s": 3650 * 86_400},
        {"expire_time": NOW + timedelta(seconds=1)},
        {"allowed_networks": ("10.0.0.0/8", "2001:db8::/32", "192.0.2.1")},
        {"labels": {"env": "", "ünï": "100%_"}},
        {"purpose": "family: 👩‍👩‍👧"},
    ],
)
def test_the_edges_of_what_is_allowed_pass(change: Mapping[str, Any]) -> None:
    """The bounds themselves are good values."""
    check_draft(replace(GOOD, **change), ORGANIZATION, NOW)


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"purpose": ""}, "key.purpose"),
        ({"purpose": "  \t "}, "key.purpose"),
        ({"purpose": "p" * 201}, "key.purpose"),
        ({"purpose": "p" * 10_240}, "key.purpose"),
        ({"purpose": "one\ntwo"}, "key.purpose"),
        ({"purpose": "nul\x00"}, "key.purpose"),
        ({"purpose": "\ud800"}, "key.purpose"),
        ({"owner": ""}, "key.owner"),
        ({"owner": "alice"}, "key.owner"),
        ({"owner": GOOD.team}, "key.owner"),
        ({"team": ""}, "key.team"),
        ({"team": "%"}, "key.team"),
        ({"quota": KeyQuota()}, "key.quota"),
        ({"quota": KeyQuota(inherited_from=GOOD.team, limits=(RPM,))}, "key.quota"),
        ({"quota": KeyQuota(inherited_from=GOOD.owner)}, "key.quota.inherited_from"),
        (
            {"quota": KeyQuota(inherited_from=child_name(ORGANIZATION, "teams", new_id("team")))},
            "key.quota.inherited_from",
        ),
        ({"quota": _limits(replace(RPM, metric=q.LIMIT_METRIC_UNSPECIFIED))}, "key.quota.limits.rules[0].metric"),
        ({"quota": _limits(RPM, replace(RPM, window=q.LIMIT_WINDOW_UNSPECIFIED))}, "key.quota.limits.rules[1].window"),
        (
            {"quota": _limits(replace(RPM, metric=q.LIMIT_METRIC_CONCURRENT_REQUESTS))},
            "key.quota.limits.rules[0].window",
        ),
        ({"quota": _limits(replace(RPM, limit=-1))}, "key.quota.limits.rules[0].limit"),
        ({"quota": _limits(RPM, replace(RPM, limit=5, soft=True))}, "key.quota.limits.rules[1]"),
        ({"quota": _limits(*[replace(RPM, model=str(n)) for n in range(33)])}, "key.quota.limits.rules"),
        ({"quota": _limits(replace(RPM, model="m" * 257))}, "key.quota.limits.rules[0].model"),
        ({"rotation_period_s": 0}, "key.rotation.period"),
        ({"rotation_period_s": 86_399}, "key.rotation.period"),
        ({"rotation_period_s": 3650 * 86_400 + 1}, "key.rotation.period"),
        ({"rotation_period_s": -86_400}, "key.rotation.period"),
        ({"responsible": ""}, "key.rotation.responsible"),
        ({"expire_time": NOW}, "key.expire_time"),
        ({"allowed_models": ("a", "")}, "key.allowed_models[1]"),
        ({"allowed_models": ("m" * 257,)}, "key.allowed_models[0]"),
        ({"allowed_models": ("m",) * 1001}, "key.allowed_models"),
        ({"allowed_networks": ("10.0.0.1/8",)}, "key.allowed_networks[0]"),
        ({"allowed_networks": ("10.0.0.0/8",) * 101}, "key.allowed_networks"),
        ({"labels": {str(n): "" for n in range(33)}}, "key.labels"),
        ({"labels": {"": "x"}}, "key.labels"),
        ({"labels": {"k" * 64: "x"}}, "key.labels"),
        ({"labels": {"k": "v" * 256}}, "key.labels[k]"),
        ({"labels": {"k": "a\x1b[31m"}}, "key.labels[k]"),
        ({"excluded_route_tags": ("",)}, "key.excluded_route_tags[0]"),
    ],
)
def test_each_broken_rule_names_its_field(change: Mapping[str, Any], param: str) -> None:
    """The caller is told which field of its own request is at fault, in one sentence."""
    with pytest.raises(GatewayError) as caught:
        check_draft(replace(GOOD, **change), ORGANIZATION, NOW)
    assert (caught.value.code, caught.value.param) == ("invalid_request", param)
    assert caught.value.message.startswith(param)
    assert caught.value.message.endswith(".")


@pytest.mark.parametrize(
    ("field", "collection", "prefix", "param"),
    [
        ("owner", "members", "user", "key.owner"),
        ("team", "teams", "team", "key.team"),
        ("responsible", "members", "user", "key.rotation.responsible"),
    ],
)
def test_names_of_another_organization_are_not_found(field: str, collection: str, prefix: str, param: str) -> None:
    """Whether they exist there is nobody's business here."""
    foreign: dict[str, Any] = {field: f"organizations/{new_id('org')}/{collection}/{new_id(prefix)}"}
    with pytest.raises(GatewayError) as caught:
        check_draft(replace(GOOD, **foreign), ORGANIZATION, NOW)
    assert (caught.value.code, caught.value.param) == ("not_found", param)


def test_fingerprints_differ_where_drafts_differ() -> None:
    """And equal drafts have equal ones, whatever the order of their labels."""
    drafts = [
        GOOD,
        replace(GOOD, purpose="other"),
        replace(GOOD, expire_time=NOW),
        replace(GOOD, quota=_limits(RPM)),
        replace(GOOD, quota=_limits(replace(RPM, limit=61))),
        replace(GOOD, allowed_models=("a",)),
        replace(GOOD, labels={"a": "b"}),
    ]
    assert len({fingerprint(draft) for draft in drafts}) == len(drafts)
    assert fingerprint(replace(GOOD, labels={"a": "1", "b": "2"})) == fingerprint(
        replace(GOOD, labels={"b": "2", "a": "1"})
    )
