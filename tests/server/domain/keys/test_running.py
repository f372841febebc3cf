"""Streams end with their keys, and with nobody else's."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from tests.server.domain.house import OPERATOR, START, House, draft_for

from tokendance.errors import GatewayError
from tokendance_server.domain.changes import Change
from tokendance_server.domain.keys.key import Key, KeyState
from tokendance_server.domain.keys.running import RunningStreams
from tokendance_server.domain.organizations import FirstNames
from tokendance_server.domain.principals import Principal


class Street:
    """A house whose streams are followed, with two keys."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.reported: list[Exception] = []
        self.streams = RunningStreams(house.verifier, self.reported.append)

    async def open(self) -> FirstNames:
        """Open the house and make its keys."""
        names = await self.house.open()
        self.key, self.secret = await self.house.keys.create(OPERATOR, names.organization, draft_for(names))
        _, self.other_secret = await self.house.keys.create(OPERATOR, names.organization, draft_for(names))
        return names

    async def stream(self, secret: str) -> tuple[Principal, list[GatewayError]]:
        """Begin a stream; returns its caller, and the list where its end will be."""
        principal = await self.house.verifier.verify(secret)
        ended: list[GatewayError] = []
        self.streams.enter(principal, ended.append)
        return principal, ended

    async def tell(self, name: str, kind: str = "key") -> None:
        """Tell of a change, and wait until it was looked at."""
        self.streams.changed(Change(1, kind, name, "", START))
        await settled()

    async def put(self, key: Key) -> None:
        """Change the key behind everybody's back, and tell of it."""
        self.house.store.put(key)
        await self.tell(key.name)


async def settled() -> None:
    """Wait until nothing more happens by itself."""
    for _ in range(20):
        await asyncio.sleep(0)


@pytest.fixture
async def street(house: House) -> Street:
    """The house, open."""
    street = Street(house)
    await street.open()
    return street


@pytest.mark.parametrize(("state", "code"), [(KeyState.REVOKED, "key_revoked"), (KeyState.SUSPENDED, "key_suspended")])
async def test_a_stream_ends_with_its_key(street: Street, state: KeyState, code: str) -> None:
    """With the reason; another key's stream goes on."""
    _, ended = await street.stream(street.secret)
    _, others = await street.stream(street.other_secret)
    await street.put(replace(street.key, state=state))
    assert [error.code for error in ended] == [code]
    assert others == []


async def test_a_stream_goes_on_while_its_key_works(street: Street) -> None:
    """Also where something else of the key changed, or its secret lives on beside a new one."""
    _, ended = await street.stream(street.secret)
    await street.put(replace(street.key, purpose="Other reports", version=2))
    await street.house.life.rotate(OPERATOR, street.key.name, overlap_s=3600)
    await street.tell(street.key.name)
    assert ended == []


async def test_a_stream_ends_with_its_secret(street: Street) -> None:
    """A rotation without overlap ends the streams of the old secret, not those of the new one."""
    _, ended = await street.stream(street.secret)
    street.house.clock.advance(1)
    rotated = await street.house.life.rotate(OPERATOR, street.key.name, overlap_s=0)
    _, fresh = await street.stream(rotated.secret)
    await street.tell(street.key.name)
    assert [error.code for error in ended] == ["key_expired"]
    assert fresh == []


async def test_streams_end_with_their_organization(street: Street) -> None:
    """All of them, and none of another one's."""
    house = street.house
    works = {"": True}

    async def organization_works(_: str) -> bool:
        return works[""]

    house.verifier._organization_works = organization_works
    principal, ended = await street.stream(street.secret)
    works[""] = False
    await street.tell("organizations/org_elsewhere", "organization")
    assert ended == []
    await street.tell(principal.organization, "organization")
    assert [error.code for error in ended] == ["key_suspended"]


async def test_what_has_ended_is_left_alone(street: Street) -> None:
    """A stream that left is not ended, and nothing of it is kept."""
    principal = await street.house.verifier.verify(street.secret)
    ended: list[GatewayError] = []
    street.streams.enter(principal, ended.append)
    street.streams.leave(principal, ended.append)
    await street.put(replace(street.key, state=KeyState.REVOKED))
    assert ended == []
    assert street.streams._streams == {}


async def test_a_lost_place_in_the_feed_looks_at_everything(street: Street) -> None:
    """Nobody knows then what changed."""
    _, ended = await street.stream(street.secret)
    street.house.store.put(replace(street.key, state=KeyState.REVOKED))
    street.streams.everything_changed()
    await settled()
    assert [error.code for error in ended] == ["key_revoked"]


async def test_a_store_that_fails_is_asked_again_and_told(street: Street, monkeypatch: pytest.MonkeyPatch) -> None:
    """The stream goes on, for nothing is known against it."""
    failures = []

    async def fail(_: str) -> Key | None:
        failures.append(1)
        raise ConnectionError("away")

    monkeypatch.setattr("tokendance_server.domain.keys.running._TRY_AGAIN_S", 0)
    monkeypatch.setattr(street.house.store, "get", fail)
    _, ended = await street.stream(street.secret)
    await street.tell(street.key.name)
    await settled()
    assert ended == []
    assert len(failures) == 5
    assert [type(error) for error in street.reported] == [ConnectionError]
    await street.streams.close()
