"""Sign-ins and sessions of the console, in every store."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.stores.conftest import _open

from tokendance_server.domain.audit.events import AUTOMATIC, PLATFORM, EventDraft, event
from tokendance_server.domain.principals import Principal
from tokendance_server.domain.sessions.session import KeptSession, digest_of
from tokendance_server.domain.sessions.store import SessionStore
from tokendance_server.stores.memory_sessions import MemorySessionStore
from tokendance_server.stores.sql.sessions import SqlSessionStore

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
LATER = NOW + timedelta(minutes=10)
ONE, OTHER = digest_of("one"), digest_of("other")


@pytest.fixture(params=["memory", "sqlite", "postgresql"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[SessionStore]:
    """Each implementation in turn."""
    if request.param == "memory":
        yield MemorySessionStore()
        return
    database = await _open(request.param, request, tmp_path)
    yield SqlSessionStore(database)
    await database.close()


def told(action: str = "console_session.create") -> EventDraft:
    """Return an event of a session."""
    somebody = Principal(kinds=frozenset(), name="identities/ada")
    return event(somebody, AUTOMATIC, organization_id=PLATFORM, time=NOW, action=action, resource="sessions/ses_1")


def session(digest: bytes = ONE, expire_time: datetime = LATER) -> KeptSession:
    """Return a session."""
    return KeptSession(digest, "ses_1", "identities/ada", "", "sealed", NOW, NOW, LATER, expire_time)


async def test_a_login_is_taken_once(store: SessionStore) -> None:
    """Whoever comes second, or with another state, finds nothing."""
    assert await store.add_login(ONE, "sealed", NOW, LATER, 10)
    assert await store.take_login(OTHER, NOW) is None
    assert await store.take_login(ONE, NOW) == "sealed"
    assert await store.take_login(ONE, NOW) is None


async def test_a_login_that_is_over_is_none(store: SessionStore) -> None:
    """To the instant, and its place is free again."""
    assert await store.add_login(ONE, "sealed", NOW, LATER, 1)
    assert not await store.add_login(OTHER, "sealed", NOW, LATER, 1)
    assert await store.take_login(ONE, LATER) is None
    assert await store.add_login(OTHER, "sealed", LATER, LATER + timedelta(seconds=1), 1)


async def test_a_mark_of_a_used_link_is_there_until_it_ends(store: SessionStore) -> None:
    """It cannot be taken away as a login, nor be set again."""
    assert await store.add_login(ONE, "", NOW, LATER, 10)
    assert await store.take_login(ONE, NOW) is None
    assert not await store.add_login(ONE, "", NOW, LATER, 10)
    assert await store.add_login(ONE, "", LATER, LATER + timedelta(minutes=1), 10)


async def test_a_session_is_found_until_it_is_ended(store: SessionStore) -> None:
    """By its digest alone; a second end is none."""
    await store.add(session(), told())
    assert await store.get(ONE) == session()
    assert await store.get(OTHER) is None
    assert await store.end(ONE, told("console_session.end"))
    assert not await store.end(ONE, told("console_session.end"))
    assert await store.get(ONE) is None


async def test_sessions_that_are_over_go_with_the_next(store: SessionStore) -> None:
    """Nothing else removes those that nobody uses."""
    await store.add(session(OTHER, NOW), told())
    await store.add(session(), told())
    assert await store.get(OTHER) is None


async def test_use_prolongs_a_session(store: SessionStore) -> None:
    """And prolonging one that is not there makes none."""
    await store.add(session(), told())
    await store.touch(ONE, LATER + timedelta(minutes=1))
    await store.touch(OTHER, LATER)
    kept = await store.get(ONE)
    assert kept is not None
    assert kept.idle_expire_time == LATER + timedelta(minutes=1)
    assert await store.get(OTHER) is None


async def test_tokens_are_renewed_by_one_at_a_time(store: SessionStore) -> None:
    """Until who renews them takes too long; and what was renewed meanwhile is not overwritten."""
    await store.add(session(), told())
    until = NOW + timedelta(seconds=15)
    assert await store.claim(session(), until, NOW)
    assert not await store.claim(session(), until, NOW)
    assert await store.claim(session(), until + timedelta(seconds=15), until)
    assert await store.renew(session(), "new")
    assert not await store.renew(session(), "newer")
    assert not await store.claim(session(), until, until)
    assert await store.get(ONE) == replace(session(), sealed="new", version=2)
