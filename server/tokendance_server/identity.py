"""Who signs people in on this node, wired: an identity provider as configured, the development issuer, or nobody."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path

from tokendance.errors import GatewayError
from tokendance_server.config import ServerConfig
from tokendance_server.development_sign_in import DevelopmentSignIn, NoSignIn
from tokendance_server.domain.changes import ChangeKind
from tokendance_server.domain.clock import Clock
from tokendance_server.domain.egress import EgressPolicy
from tokendance_server.domain.identity.arrivals import Arrivals
from tokendance_server.domain.identity.development import KEY_FILE, DevelopmentKey, development_tokens, new_key
from tokendance_server.domain.identity.id_tokens import IdTokens
from tokendance_server.domain.identity.roles import Person
from tokendance_server.domain.identity.sign_ins import SignIns
from tokendance_server.domain.identity.signing_keys import SigningKeys
from tokendance_server.domain.identity.tokens import AccessTokens, refused
from tokendance_server.domain.principals import Principal
from tokendance_server.domain.sessions.session import SignInSource
from tokendance_server.domain.sessions.sessions import TokenCheck
from tokendance_server.governance import Governance
from tokendance_server.openid import IssuerDocuments, OpenIdSignIn
from tokendance_server.providers.transport import Transport, open_transport
from tokendance_server.services.sign_in import SignIn
from tokendance_server.startup import StartupError
from tokendance_server.stores.paths import read_private
from tokendance_server.stores.sql.database import Database
from tokendance_server.stores.sql.directory import SqlDirectory
from tokendance_server.stores.sql.people import SqlPeopleStore
from tokendance_server.telemetry import logger

_DOCUMENT_BYTES = 512 * 1024

MakeSignIns = Callable[[Collection[str]], SignIns]
"""Returns what makes callers of people; it is told the organizations whose people groups tell."""


class Identity:
    """What signs people in, and the connections behind it.

    `source` proves people to be who they are for the console, `check` tells whom an access token makes of its bearer.
    """

    def __init__(
        self,
        sign_in: SignIn,
        source: SignInSource,
        check: TokenCheck,
        keys: SigningKeys | None = None,
        transport: Transport | None = None,
    ) -> None:
        self.sign_in = sign_in
        self.source = source
        self.check = check
        self._keys = keys
        self._transport = transport

    async def close(self) -> None:
        """Close the connections to the identity provider."""
        if self._keys is not None:
            await self._keys.close()
        if self._transport is not None:
            await self._transport.close()


class _ByRecord:
    """Tells who bears a token of the identity provider, and which member that is."""

    def __init__(self, tokens: AccessTokens[Person], sign_ins: SignIns) -> None:
        self._tokens = tokens
        self._sign_ins = sign_ins

    async def identify(self, token: str) -> Principal:
        """Return the caller. Raises as Tokens.identify."""
        person = await self._tokens.identify(token)
        principal = await self._sign_ins.principal(person)
        return replace(principal, sign_in_time=person.sign_in_time, expire_time=person.expire_time)


class _ByName:
    """Tells who bears a token of the development issuer, if the member that it names works."""

    def __init__(self, tokens: AccessTokens[Principal], sign_ins: SignIns) -> None:
        self._tokens = tokens
        self._sign_ins = sign_ins

    async def identify(self, token: str) -> Principal:
        """Return the caller. Raises as Tokens.identify."""
        return await self._sign_ins.vouch(await self._tokens.identify(token))


class _ByNobody:
    """Takes no token."""

    async def identify(self, token: str) -> Principal:
        """Refuse."""
        raise refused("This node has no identity provider whose tokens it takes; set one in [server.identity].")


def sign_ins_maker(database: Database, governance: Governance, clock: Clock) -> MakeSignIns:
    """Return what makes callers of people, by the records of a database."""
    arrivals = Arrivals(SqlPeopleStore(database), governance.people.members, clock, _tell_not_stopped)

    def make(governed: Collection[str]) -> SignIns:
        sign_ins = SignIns(
            SqlDirectory(database),
            clock,
            governed=governed,
            works=governance.organizations.works,
            sighted=lambda: governance.watcher.healthy,
            activate=arrivals.activate,
            stop=arrivals.stop,
        )
        for kind in (ChangeKind.MEMBER, ChangeKind.ORGANIZATION):
            governance.watcher.subscribe(kind, sign_ins)
        return sign_ins

    return make


def open_identity(
    config: ServerConfig,
    data_dir: Path,
    egress: EgressPolicy,
    clock: Clock,
    *,
    loopback_only: bool,
    make_sign_ins: MakeSignIns,
) -> Identity:
    """Wire what signs people in. Nothing is asked of an identity provider until a token comes.

    The development issuer is for a node that nobody else reaches: whole in one process, on loopback only, with a
    database of its own and no other issuer. Raises StartupError where its key cannot be used.
    """
    settings = config.identity
    prefixes, hub_issuer = settings.hub_prefixes, settings.hub_issuer
    if settings.issuer:
        transport = open_transport(config.upstream_client, egress, answer_bytes=_DOCUMENT_BYTES)
        documents = IssuerDocuments(settings, transport, clock)
        keys = SigningKeys(documents.read_keys, clock, _tell_reading)
        roles = settings.roles()
        known = _ByRecord(
            AccessTokens(settings.expected(), keys, roles.person, clock), make_sign_ins(roles.organizations)
        )
        id_tokens = IdTokens(settings.expected_of_console(), keys, clock)
        source = OpenIdSignIn(settings, documents, id_tokens, clock)
        sign_in = SignIn(known, hub_prefixes=prefixes, hub_issuer=hub_issuer)
        return Identity(sign_in, source, known, keys, transport)
    if config.database_url is not None or not loopback_only:
        return Identity(SignIn(hub_prefixes=prefixes, hub_issuer=hub_issuer), NoSignIn(), _ByNobody())
    file = data_dir / KEY_FILE
    try:
        key = DevelopmentKey(read_private(file, new_key))
    except ValueError as exc:
        raise StartupError(
            f"The key of the development issuer, {file}, cannot be used: {exc}. Remove the file to have a new one made."
        ) from exc
    named = _ByName(development_tokens(key, clock), make_sign_ins(()))
    sign_in = SignIn(named, direct_only=True, hub_prefixes=prefixes, hub_issuer=hub_issuer)
    return Identity(sign_in, DevelopmentSignIn(key, clock), named)


def _tell_reading(error: Exception | None) -> None:
    if error is None:
        logger().info("signing_keys_read_again")
    else:
        logger().warning("signing_keys_not_read", error=type(error).__name__, detail=str(error))


def _tell_not_stopped(member: str, error: GatewayError) -> None:
    logger().warning("member_not_stopped", member=member, code=error.code, detail=error.message)
