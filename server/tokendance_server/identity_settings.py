"""Table [server.identity]: whose access tokens sign people in, and which roles their claims carry."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, StringConstraints, field_validator, model_validator

from tokendance.credentials import API_KEY_PREFIX
from tokendance.errors import GatewayError
from tokendance_server.domain.identity.roles import Grant, Role, RoleMap
from tokendance_server.domain.identity.tokens import ALGORITHMS, Expected
from tokendance_server.domain.names import organization_of
from tokendance_server.domain.sessions.session import SessionLimits

Text = Annotated[str, StringConstraints(min_length=1, max_length=512)]
# Shorter, and a slip would make sessions of the hub of everything.
HubPrefix = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{3,32}$")]
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class RoleSettings(_Table):
    """A role, and on which organization (`organizations/org_…`); empty for a role on the whole platform."""

    role: Role
    organization: str = ""

    @model_validator(mode="after")
    def _check_grant(self) -> RoleSettings:
        self.grant()
        if self.organization:
            try:
                organization_of(self.organization, "organization")
            except GatewayError as exc:
                raise ValueError("an organization is named organizations/org_…") from exc
        return self

    def grant(self) -> Grant:
        """Return the role; raises ValueError where it and the organization do not go together."""
        return Grant(self.role, self.organization)


class GroupSettings(RoleSettings):
    """One [[server.identity.groups]]: the role of those whose claim holds `value`."""

    value: Text


class SubjectSettings(RoleSettings):
    """One [[server.identity.subjects]]: the role of one subject, such as a machine with client credentials."""

    subject: Text


class ConsoleSettings(_Table):
    """Table [server.identity.console]: what the console is at the identity provider, and how long its sessions last.

    Without `client_secret` it is a public client. The redirect address there is `https://HOST/console/callback`.
    Sessions end `idle_s` seconds after their last use, and `lifetime_s` after their sign-in.
    """

    client_id: str = Field(default="", max_length=512)
    client_secret: SecretStr = SecretStr("")
    scope: str = Field(default="openid profile email", max_length=512)
    idle_s: float = Field(default=1800, ge=60, le=86_400)
    lifetime_s: float = Field(default=43_200, ge=300, le=7 * 86_400)

    @field_validator("scope")
    @classmethod
    def _check_scope(cls, value: str) -> str:
        if "openid" not in value.split():
            raise ValueError("scope must name openid: without it nobody is told who signed in")
        return value

    @model_validator(mode="after")
    def _check_client(self) -> ConsoleSettings:
        if self.client_secret.get_secret_value() and not self.client_id:
            raise ValueError("client_secret is there without its client_id")
        return self

    def limits(self) -> SessionLimits:
        """Return how long sessions last."""
        return SessionLimits(timedelta(seconds=self.idle_s), timedelta(seconds=self.lifetime_s))


class IdentitySettings(_Table):
    """The issuer, what its tokens must say, and what they mean here. `leeway_s` in seconds.

    Without an issuer nobody signs in but by tokens of the development issuer. Keys are read from `jwks_url`, or from
    where the issuer's own discovery document says. `clients` are the programs whose tokens are taken, none: all.
    `hub_prefixes` and `hub_issuer` tell how sessions of AgentHub look, to refuse them by name.
    """

    issuer: str = ""
    audience: str = ""
    jwks_url: str = ""
    algorithms: tuple[Literal[ALGORITHMS], ...] = ("RS256", "PS256", "ES256", "Ed25519")  # type: ignore[valid-type]
    leeway_s: float = Field(default=30, ge=0, le=120)
    clients: frozenset[Text] = frozenset()
    claim: Text = "groups"
    groups: tuple[GroupSettings, ...] = ()
    subjects: tuple[SubjectSettings, ...] = ()
    hub_prefixes: tuple[HubPrefix, ...] = ()
    hub_issuer: str = ""
    console: ConsoleSettings = ConsoleSettings()

    @field_validator("issuer", "jwks_url")
    @classmethod
    def _check_url(cls, value: str) -> str:
        return value if not value else check_issuer_url(value)

    @field_validator("hub_prefixes")
    @classmethod
    def _check_prefixes(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if any(API_KEY_PREFIX.startswith(one) or one.startswith(API_KEY_PREFIX) for one in value):
            raise ValueError(f"{API_KEY_PREFIX} begins the API keys of this gateway")
        return value

    @model_validator(mode="after")
    def _check_whole(self) -> IdentitySettings:
        if not self.issuer:
            if self.audience or self.jwks_url or self.groups or self.subjects or self.clients or self.console.client_id:
                raise ValueError("issuer is missing: the rest says what its tokens mean")
            return self
        if not self.audience:
            raise ValueError("audience is missing: without it tokens for other services would be taken")
        if not self.algorithms:
            raise ValueError("algorithms must name one at least")
        if self.hub_issuer == self.issuer:
            raise ValueError("hub_issuer is the issuer itself, so that nobody could sign in")
        if self.clients and self.console.client_id and self.console.client_id not in self.clients:
            raise ValueError("clients must name the console's client_id, or its tokens would be refused")
        return self

    def expected(self) -> Expected:
        """Return what tokens must say."""
        return Expected(self.issuer, self.audience, frozenset(self.algorithms), self.leeway_s, self.clients)

    def expected_of_console(self) -> Expected:
        """Return what ID tokens for the console must say."""
        return Expected(self.issuer, self.console.client_id, frozenset(self.algorithms), self.leeway_s)

    def roles(self) -> RoleMap:
        """Return what their claims mean."""
        return RoleMap(
            self.claim,
            _by_name((one.value, one.grant()) for one in self.groups),
            _by_name((one.subject, one.grant()) for one in self.subjects),
        )


def _by_name(pairs: Iterable[tuple[str, Grant]]) -> dict[str, list[Grant]]:
    found: dict[str, list[Grant]] = {}
    for name, grant in pairs:
        found.setdefault(name, []).append(grant)
    return found


def check_issuer_url(value: str) -> str:
    """Return the URL of an issuer or its keys as given; raises ValueError where it is not safe to ask."""
    parts = urlsplit(value)
    secure = parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in _LOOPBACK)
    if not secure or not parts.hostname or parts.username is not None or parts.query or parts.fragment:
        raise ValueError("an issuer or jwks_url is an https:// URL without user, query and fragment (http on loopback)")
    return value
