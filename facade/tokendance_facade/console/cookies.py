"""Cookies of the console: one for the session, one for each sign-in that has begun; a browser keeps nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from tokendance_facade.answers import Header

_LOGIN_S = 600
_STATE_CHARACTERS = 8
_MOST = 8192


@dataclass(frozen=True, slots=True)
class Cookies:
    """Names and attributes of the cookies at one address of the console.

    Over TLS they have the prefix `__Host-`: the browser takes them from this host alone, and sends them over TLS alone.
    On plain HTTP, which is served on loopback only, browsers would refuse that prefix; there the name holds the port,
    because cookies of one host are shared among its ports.
    """

    secure: bool
    prefix: str

    @classmethod
    def at(cls, origin: str) -> Cookies:
        """Return the cookies of an origin, such as `https://console.example`."""
        parts = urlsplit(origin)
        if parts.scheme == "https":
            return cls(secure=True, prefix="__Host-tokendance")
        return cls(secure=False, prefix=f"tokendance-{parts.port or 80}")

    @property
    def session(self) -> str:
        """The name of the session's cookie."""
        return f"{self.prefix}-session"

    def login(self, state: str) -> str:
        """Return the name of the cookie of a sign-in: several may have begun in one browser."""
        return f"{self.prefix}-login-{state[:_STATE_CHARACTERS]}"

    def open_session(self, cookie: str) -> Header:
        """Return the header that hands over a session, until the browser is closed."""
        return self._set(self.session, cookie, "")

    def close_session(self) -> Header:
        """Return the header that takes the session away."""
        return self._set(self.session, "", "; Max-Age=0")

    def begin_login(self, state: str) -> Header:
        """Return the header that ties a sign-in to this browser."""
        return self._set(self.login(state), state, f"; Max-Age={_LOGIN_S}")

    def end_login(self, state: str) -> Header:
        """Return the header that ends it."""
        return self._set(self.login(state), "", "; Max-Age=0")

    def _set(self, name: str, value: str, more: str) -> Header:
        # Lax: the identity provider sends people back here with a plain navigation from its own site.
        secure = "; Secure" if self.secure else ""
        return ("set-cookie", f"{name}={value}; Path=/; HttpOnly; SameSite=Lax{secure}{more}")


def read_cookies(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the cookies of a request by name; of two of one name neither, because one of them is not ours."""
    found: dict[str, str] = {}
    twice = set()
    for pair in headers.get("Cookie", "")[:_MOST].split(";"):
        name, sign, value = pair.strip().partition("=")
        if sign:
            if name in found:
                twice.add(name)
            found[name] = value
    return {name: value for name, value in found.items() if name not in twice}
