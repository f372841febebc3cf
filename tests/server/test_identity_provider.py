"""Access tokens of a certified OpenID provider: its keys rotate, and strangers make up as many ids as they like."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests.identity_provider import AUDIENCE, IdentityProvider, running_identity_provider
from tests.server.services.test_sign_in import PEOPLE, call_of
from tests.server.test_identity import strangers_only

from tokendance.errors import GatewayError
from tokendance_server.config import ServerConfig
from tokendance_server.domain.clock import ManualClock
from tokendance_server.domain.egress import EgressPolicy
from tokendance_server.identity import Identity, open_identity


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[IdentityProvider]:
    """The provider, in a process of its own."""
    with running_identity_provider(tmp_path_factory.mktemp("provider")) as running_one:
        yield running_one


class Door:
    """What checks tokens of the provider, on a clock that begins now."""

    def __init__(self, provider: IdentityProvider, folder: Path) -> None:
        self.clock = ManualClock(datetime.now(UTC))
        told = {
            "issuer": provider.issuer,
            "audience": AUDIENCE,
            "groups": [{"value": "gateway-admins", "role": "platform_admin"}],
        }
        config = ServerConfig.model_validate({"data_dir": folder, "identity": told})
        policy = EgressPolicy(allow_loopback=True)
        self.identity: Identity = open_identity(
            config, folder, policy, self.clock, loopback_only=True, make_sign_ins=strangers_only(self.clock)
        )

    async def code(self, token: str) -> str:
        try:
            await self.identity.sign_in.identify(PEOPLE, call_of(), token)
        except GatewayError as error:
            return error.code
        return "ok"


@pytest.fixture
async def door(provider: IdentityProvider, tmp_path: Path) -> AsyncIterator[Door]:
    """A new one, which has read no keys yet."""
    made = Door(provider, tmp_path)
    yield made
    await made.identity.close()


async def test_a_rotation_at_the_provider_needs_nobodys_hand(provider: IdentityProvider, door: Door) -> None:
    """Tokens of the new key are good once a minute has passed, those of the withdrawn one are not any more."""
    old = provider.token("admin")
    assert await door.code(old) == "ok"
    provider.rotate()
    new = provider.token("admin")
    assert await door.code(new) == "invalid_id_token"
    door.clock.advance(60)
    assert await door.code(new) == "ok"
    assert await door.code(old) == "invalid_id_token"


async def test_a_flood_of_unknown_ids_reads_the_keys_once(provider: IdentityProvider, door: Door) -> None:
    """A thousand forgeries in a minute, one reading beyond the first; good tokens pass all the while."""
    good = provider.token("admin")
    before = provider.reads()
    assert await door.code(good) == "ok"
    door.clock.advance(60)
    forged = [_with_key(good, f"stranger-{number}") for number in range(1000)]
    codes = await asyncio.gather(*map(door.code, forged))
    assert set(codes) == {"invalid_id_token"}
    assert await door.code(good) == "ok"
    assert provider.reads() - before == 2


@pytest.mark.parametrize("resource", ["https://elsewhere.example.com", f"{AUDIENCE}/opaque"])
async def test_tokens_for_others_are_refused(provider: IdentityProvider, door: Door, resource: str) -> None:
    """For another service, and those that are no signed text; nobody is asked about them."""
    token, before = provider.token("admin", resource), provider.reads()
    assert await door.code(token) == "invalid_id_token"
    assert provider.reads() == before


def _with_key(token: str, kid: str) -> str:
    """Return a token that names another key."""
    head, claims, signature = token.split(".")
    header = json.loads(base64.urlsafe_b64decode(head + "=" * (-len(head) % 4))) | {"kid": kid}
    return f"{base64.urlsafe_b64encode(json.dumps(header).encode()).rstrip(b'=').decode()}.{claims}.{signature}"
