"""Who signs people in on a node, by its settings, and what is read from an identity provider."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from joserfc import jwt
from pydantic import ValidationError
from tests.server.domain.identity.issuer import ACME, AUDIENCE, NOW, RSA
from tests.server.services.test_sign_in import PEOPLE, call_of

from tokendance.errors import GatewayError
from tokendance_server.config import ServerConfig
from tokendance_server.domain.clock import ManualClock
from tokendance_server.domain.egress import EgressPolicy
from tokendance_server.domain.identity.development import DevelopmentKey
from tokendance_server.domain.identity.roles import Grant
from tokendance_server.domain.identity.sign_ins import SignIns
from tokendance_server.identity import Identity, MakeSignIns, open_identity
from tokendance_server.startup import StartupError
from tokendance_server.stores.memory import MemoryOrganizationStore
from tokendance_server.stores.memory_directory import MemoryDirectory

HTTPS = {"issuer": "https://a", "audience": AUDIENCE}
GROUPS = [{"value": "admins", "role": "platform_admin"}]


def opened(
    folder: Path, *, loopback_only: bool = True, egress: EgressPolicy | None = None, **settings: Any
) -> Identity:
    """Return what signs people in on a node with these settings."""
    config = ServerConfig.model_validate({"data_dir": folder, **settings})
    policy = egress or EgressPolicy(allow_loopback=True)
    clock = ManualClock(NOW)
    return open_identity(
        config, folder, policy, clock, loopback_only=loopback_only, make_sign_ins=strangers_only(clock)
    )


def strangers_only(clock: ManualClock) -> MakeSignIns:
    """Return what makes callers of people where nobody is a member."""

    async def works(_: str) -> bool:
        return True

    async def never(*_: object) -> None:
        pytest.fail("a record was changed")

    directory = MemoryDirectory(MemoryOrganizationStore())
    return lambda governed: SignIns(
        directory, clock, governed=governed, works=works, sighted=lambda: True, activate=never, stop=never
    )


async def test_a_node_by_itself_has_a_development_issuer(tmp_path: Path) -> None:
    """Its key is made once, private, and signs."""
    opened(tmp_path)
    file = tmp_path / "identity.pem"
    assert file.stat().st_mode & 0o777 == 0o600
    token = DevelopmentKey(file.read_bytes()).sign(Grant("platform_admin"), NOW)
    assert (await opened(tmp_path).sign_in.identify(PEOPLE, call_of(), token)).name == "identities/developer"


@pytest.mark.parametrize(
    "settings",
    [
        {"loopback_only": False},
        {"database_url": "postgresql://u:p@127.0.0.1/gateway"},
        {"identity": {"issuer": "https://id.example.com", "audience": AUDIENCE}},
    ],
    ids=["reachable", "PostgreSQL", "another issuer"],
)
async def test_other_nodes_have_none(tmp_path: Path, settings: dict[str, Any]) -> None:
    """Not even where a key of former times lies in the directory."""
    opened(tmp_path)
    token = DevelopmentKey((tmp_path / "identity.pem").read_bytes()).sign(Grant("platform_admin"), NOW)
    identity = opened(tmp_path, **settings)
    with pytest.raises(GatewayError) as caught:
        await identity.sign_in.identify(PEOPLE, call_of(), token)
    assert caught.value.code in ("id_token_not_accepted", "invalid_id_token")
    await identity.close()


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda file: file.chmod(0o640), "chmod 600"),
        (lambda file: file.write_bytes(b"nonsense"), "Remove the file"),
    ],
)
def test_a_key_that_cannot_be_trusted_stops_the_start(
    tmp_path: Path, spoil: Callable[[Path], object], words: str
) -> None:
    """With the way out."""
    opened(tmp_path)
    spoil(tmp_path / "identity.pem")
    with pytest.raises(StartupError, match=words):
        opened(tmp_path)


class Site:
    """Serves the documents of an issuer; `answers` replaces some."""

    def __init__(self) -> None:
        self.issuer = ""
        self.answers: dict[str, web.Response] = {}
        self.paths: list[str] = []

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        self.paths.append(request.path)
        if request.path in self.answers:
            return self.answers[request.path]
        if request.path == "/jwks":
            return web.json_response({"keys": [RSA.as_dict(private=False) | {"kid": "rsa-1"}]})
        return web.json_response({"issuer": self.issuer, "jwks_uri": f"{self.issuer}/jwks"})

    def token(self) -> str:
        """Return a token of an administrator."""
        now = int(NOW.timestamp())
        claims = {"iss": self.issuer, "aud": AUDIENCE, "sub": "ada", "iat": now, "exp": now + 60, "groups": "admins"}
        return jwt.encode({"alg": "RS256", "typ": "at+jwt", "kid": "rsa-1"}, claims, RSA)


@asynccontextmanager
async def site() -> AsyncIterator[Site]:
    """Serve an issuer's documents on loopback."""
    one = Site()
    server = web.ServerRunner(web.Server(one.handle))
    await server.setup()
    tcp = web.TCPSite(server, "127.0.0.1", 0)
    await tcp.start()
    one.issuer = f"http://127.0.0.1:{server.addresses[0][1]}"
    try:
        yield one
    finally:
        await server.cleanup()


@pytest.mark.parametrize("discovered", [True, False])
async def test_keys_are_read_from_the_issuer(tmp_path: Path, discovered: bool) -> None:
    """By its discovery document, or from where the settings say."""
    async with site() as issuer:
        told = {"issuer": issuer.issuer, "audience": AUDIENCE, "groups": GROUPS}
        told |= {} if discovered else {"jwks_url": f"{issuer.issuer}/jwks"}
        identity = opened(tmp_path, identity=told)
        assert (await identity.sign_in.identify(PEOPLE, call_of(), issuer.token())).name == "identities/ada"
        assert issuer.paths == (["/.well-known/openid-configuration"] if discovered else []) + ["/jwks"]
        await identity.close()


DISCOVERY = "/.well-known/openid-configuration"


@pytest.mark.parametrize(
    ("path", "answer"),
    [
        (DISCOVERY, web.json_response({"issuer": "https://evil.example", "jwks_uri": "https://evil.example/jwks"})),
        (DISCOVERY, web.json_response([])),
        (DISCOVERY, web.Response(status=302, headers={"location": "/jwks"})),
        (DISCOVERY, web.Response(status=500)),
        ("/jwks", web.Response(body=b"x" * 600_000)),
        ("/jwks", web.Response(body=b"<html>")),
    ],
)
async def test_documents_that_make_no_sense_sign_nobody_in(tmp_path: Path, path: str, answer: web.Response) -> None:
    """Another issuer's, redirects, failures, floods."""
    async with site() as issuer:
        issuer.answers[path] = answer
        identity = opened(tmp_path, identity={"issuer": issuer.issuer, "audience": AUDIENCE, "groups": GROUPS})
        with pytest.raises(GatewayError) as caught:
            await identity.sign_in.identify(PEOPLE, call_of(), issuer.token())
        assert caught.value.code == "identity_provider_unavailable"
        await identity.close()


@pytest.mark.parametrize("uri", [5, "file:///etc/passwd", "http://10.0.0.1/jwks", "https://u:p@id.example.com/jwks"])
async def test_discovery_leads_to_no_unsafe_place(tmp_path: Path, uri: Any) -> None:
    """Whatever the document says."""
    async with site() as issuer:
        issuer.answers[DISCOVERY] = web.Response(body=json.dumps({"issuer": issuer.issuer, "jwks_uri": uri}).encode())
        identity = opened(tmp_path, identity={"issuer": issuer.issuer, "audience": AUDIENCE, "groups": GROUPS})
        with pytest.raises(GatewayError, match="keys of the identity provider"):
            await identity.sign_in.identify(PEOPLE, call_of(), issuer.token())
        assert issuer.paths == [DISCOVERY]
        await identity.close()


async def test_the_guard_of_what_goes_out_holds_here_too(tmp_path: Path) -> None:
    """A provider on loopback is reached only where loopback is opened."""
    async with site() as issuer:
        told = {"issuer": issuer.issuer, "audience": AUDIENCE, "groups": GROUPS}
        identity = opened(tmp_path, egress=EgressPolicy(), identity=told)
        with pytest.raises(GatewayError) as caught:
            await identity.sign_in.identify(PEOPLE, call_of(), issuer.token())
        assert caught.value.code == "identity_provider_unavailable"
        assert issuer.paths == []
        await identity.close()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"audience": AUDIENCE}, "issuer is missing"),
        ({"issuer": "https://id.example.com"}, "audience is missing"),
        ({"issuer": "http://id.example.com", "audience": AUDIENCE}, "https"),
        ({"issuer": "https://id.example.com?x=1", "audience": AUDIENCE}, "query"),
        (HTTPS | {"jwks_url": "ftp://a/jwks"}, "https"),
        (HTTPS | {"algorithms": ["HS256"]}, "algorithms"),
        (HTTPS | {"algorithms": ["none"]}, "algorithms"),
        (HTTPS | {"algorithms": []}, "at least"),
        (HTTPS | {"leeway_s": 121}, "120"),
        (HTTPS | {"hub_issuer": "https://a"}, "hub_issuer"),
        ({"hub_prefixes": ["tdk_"]}, "API keys"),
        ({"hub_prefixes": ["a"]}, "pattern"),
        (HTTPS | {"groups": [{"value": "x", "role": "root"}]}, "role"),
        (HTTPS | {"groups": [{"value": "x", "role": "member"}]}, "organization"),
        (HTTPS | {"subjects": [{"subject": "x", "role": "member", "organization": "acme"}]}, "org_"),
        (HTTPS | {"subjects": [{"subject": "x", "role": "platform_admin", "organization": ACME}]}, "no organization"),
    ],
    ids=str,
)
def test_settings_that_would_be_unsafe_are_refused(settings: dict[str, Any], words: str) -> None:
    """At start, with a sentence."""
    with pytest.raises(ValidationError, match=words):
        ServerConfig.model_validate({"identity": settings})
