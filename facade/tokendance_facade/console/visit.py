"""One request of somebody who has signed in: who they are, what they may do, and the RPCs made in their name."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, tzinfo
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import access_pb2, errors_pb2, facade_service_pb2, organization_pb2
from tokendance_facade.console.forms import Values, csrf_token
from tokendance_facade.console.rpcs import Stubs
from tokendance_facade.exchange import Exchange
from tokendance_facade.handlers.calls import Calls

MEMBER = access_pb2.CALLER_KIND_MEMBER
ORGANIZATION_ADMIN = access_pb2.CALLER_KIND_ORGANIZATION_ADMIN
PLATFORM_ADMIN = access_pb2.CALLER_KIND_PLATFORM_ADMIN
AUDITOR = access_pb2.CALLER_KIND_AUDITOR
EVERYBODY = frozenset({MEMBER, ORGANIZATION_ADMIN, PLATFORM_ADMIN, AUDITOR})
MANAGERS = frozenset({ORGANIZATION_ADMIN, PLATFORM_ADMIN})
READERS = frozenset({ORGANIZATION_ADMIN, PLATFORM_ADMIN, AUDITOR})
PLATFORM = frozenset({PLATFORM_ADMIN})

_THEMES = {organization_pb2.THEME_LIGHT: "light", organization_pb2.THEME_DARK: "dark"}


class FreshSignInNeededError(Exception):
    """What is asked needs somebody who has proved just now who they are."""


@dataclass
class Visit:
    """A request with its session. `path` holds the parts that the route names, `query` the query string's fields."""

    exchange: Exchange
    calls: Calls
    stubs: Stubs
    session: facade_service_pb2.Session = field(repr=False)
    access_token: str = field(repr=False)
    caller: organization_pb2.Caller
    fresh_s: float
    timeout_s: float
    path: Mapping[str, str]
    query: Values
    form: Values = field(default_factory=Values)
    now: Callable[[], float] = time.time

    @property
    def kinds(self) -> frozenset[int]:
        """What the person is."""
        return frozenset(self.session.caller.kinds)

    def is_any(self, kinds: frozenset[Any]) -> bool:
        """Tell whether the person is one of these kinds."""
        return bool(self.kinds & kinds)

    @property
    def member(self) -> str:
        """The resource name of the member that the person is; empty for people of the whole platform."""
        name = self.session.caller.name
        return name if "/members/" in name else ""

    @property
    def home(self) -> str:
        """The id of the person's own organization, or of the one that they chose; may be empty."""
        if self.member:
            return self.member.split("/")[1]
        memberships = self.caller.memberships
        chosen = self.caller.preferences.default_organization
        return (memberships[0].name if memberships else chosen).partition("/")[2].partition("/")[0]

    @property
    def organization_id(self) -> str:
        """The id of the organization that the path names, or else the person's own."""
        return self.path.get("organization") or self.home

    @property
    def organization(self) -> str:
        """Its resource name."""
        return f"organizations/{self.organization_id}"

    @property
    def base(self) -> str:
        """The path below which the pages of that organization are."""
        return f"/console/{self.organization_id}"

    @property
    def person(self) -> str:
        """What the person is called."""
        return self.caller.display_name or self.caller.email or self.caller.name.rpartition("/")[2]

    @property
    def theme(self) -> str:
        """`light`, `dark`, or empty for what the system says."""
        return _THEMES.get(self.caller.preferences.theme, "")

    @property
    def zone(self) -> tzinfo:
        """The time zone in which the person reads times."""
        try:
            return ZoneInfo(self.caller.preferences.time_zone or "UTC")
        except (ZoneInfoNotFoundError, ValueError):
            return UTC

    @property
    def is_fresh(self) -> bool:
        """True while the last sign-in is young enough for reveals, credentials and roles."""
        return self.now() - self.session.sign_in_time.ToDatetime(UTC).timestamp() <= self.fresh_s

    def require_fresh(self) -> None:
        """Raise FreshSignInNeededError where the last sign-in is too long ago."""
        if not self.is_fresh:
            raise FreshSignInNeededError

    def csrf(self, path: str) -> str:
        """Return the proof for a form to a path."""
        return csrf_token(self.session.form_key, path)

    def instant(self) -> datetime:
        """Return the time."""
        return datetime.fromtimestamp(self.now(), UTC)

    async def call(self, rpc: Any, request: Any) -> Any:
        """Make an RPC in the person's name. Raises GatewayError."""
        return await self.calls.unary(self.exchange, self.access_token, rpc, request, self.timeout_s)

    async def try_call(self, rpc: Any, request: Any) -> Any | None:
        """Make an RPC whose answer a page can do without; None where this person or version has none."""
        try:
            return await self.call(rpc, request)
        except GatewayError as error:
            if error.reason in _DISPENSABLE:
                return None
            raise


_DISPENSABLE = frozenset(
    {
        errors_pb2.ERROR_REASON_UNIMPLEMENTED,
        errors_pb2.ERROR_REASON_PERMISSION_DENIED,
        errors_pb2.ERROR_REASON_NOT_FOUND,
        errors_pb2.ERROR_REASON_QUOTA_STORE_UNAVAILABLE,
    }
)
