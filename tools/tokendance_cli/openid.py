"""What a program says to an identity provider: discovery, tokens, devices, revocation. Keeps nothing."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import time
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.client import HTTPException, HTTPResponse
from typing import Any
from urllib.parse import urlencode

from tokendance_cli.announcement import is_local
from tokendance_cli.contexts import Context
from tokendance_cli.failures import FAILED, UNREACHABLE, USAGE, CommandError
from tokendance_cli.reach import explain

_PATIENCE_S = 15
_ANSWER_BYTES = 512 * 1024
_DISCOVERY = "/.well-known/openid-configuration"
_DEVICE_GRANT = "urn:ietf:params:oauth:grant-type:device_code"
_SLOWER_S = 5
_LEAST_LIFETIME_S = 60


@dataclass(frozen=True, slots=True)
class Tokens:
    """What a provider issued. `expires_at` is a time of `time.time`; `refresh_token` is empty where there is none."""

    access_token: str = field(repr=False)
    expires_at: float
    refresh_token: str = field(default="", repr=False)
    id_claims: Mapping[str, Any] = field(default_factory=dict)


class RefusedError(CommandError):
    """The provider refused a request; `error` is its own code, such as `invalid_grant`."""

    def __init__(self, issuer: str, error: str, description: str) -> None:
        told = f" ({description})" if description else ""
        super().__init__(f"The identity provider {issuer} refused: {error}{told}.", exit_code=FAILED)
        self.error = error


@dataclass(frozen=True, slots=True)
class DeviceGrant:
    """What a person is shown who signs in on another device, and how the program asks for the outcome."""

    device_code: str = field(repr=False)
    user_code: str
    verification_uri: str
    verification_uri_complete: str
    interval_s: float
    expires_at: float


class Issuer:
    """The identity provider of a context, as its discovery document describes it."""

    def __init__(self, context: Context) -> None:
        if not context.issuer or not context.client_id:
            raise CommandError(
                f"The context {context.name} names no identity provider.",
                f"Set it: `tokendance context set {context.name} --issuer URL --client-id ID`.",
                exit_code=USAGE,
            )
        self._context = context
        self._document: dict[str, Any] = {}

    @property
    def client_id(self) -> str:
        """Who this program is at the provider."""
        return self._context.client_id

    def endpoint(self, name: str, *, needed: bool = True) -> str:
        """Return an endpoint; raises CommandError where the provider has none, unless it is not `needed`."""
        url = self._metadata().get(name, "")
        if not isinstance(url, str) or not url:
            if not needed:
                return ""
            raise CommandError(f"The identity provider {self._context.issuer} has no {name.replace('_', ' ')}.")
        if not (url.startswith("https://") or (url.startswith("http://") and is_local(url))):
            raise CommandError(f"The {name.replace('_', ' ')} of {self._context.issuer} is not https://.")
        return url

    def authorization_url(self, redirect_uri: str, *, state: str, nonce: str, verifier: str) -> str:
        """Return where a browser begins the sign-in."""
        asked = {
            "response_type": "code",
            "client_id": self.client_id,
            "redirect_uri": redirect_uri,
            "scope": self._context.scope,
            "state": state,
            "nonce": nonce,
            "code_challenge": _b64(hashlib.sha256(verifier.encode()).digest()),
            "code_challenge_method": "S256",
            **self._resource(),
        }
        if "offline_access" in self._context.scope.split():
            # OpenID Connect gives a refresh token for it only where the person was asked.
            asked["prompt"] = "consent"
        url = self.endpoint("authorization_endpoint")
        return f"{url}{'&' if '?' in url else '?'}{urlencode(asked)}"

    def check_answerer(self, issuer: str | None) -> None:
        """Raise CommandError where an answer names another issuer (RFC 9207), or none where ours always does."""
        always = self._metadata().get("authorization_response_iss_parameter_supported") is True
        if (issuer is None and always) or issuer not in (None, self._context.issuer):
            raise CommandError("The sign-in was answered by another identity provider; nothing was taken from it.")

    def redeem(self, code: str, redirect_uri: str, *, nonce: str, verifier: str) -> Tokens:
        """Return the tokens of an authorization code."""
        found = self._token(
            grant_type="authorization_code", code=code, redirect_uri=redirect_uri, code_verifier=verifier
        )
        if found.id_claims.get("nonce") != nonce:
            raise CommandError("The identity token answers another sign-in than this one; sign in again.")
        return found

    def begin_device(self) -> DeviceGrant:
        """Return what is needed to sign in on another device."""
        url = self.endpoint("device_authorization_endpoint")
        answer = self._post(url, {"client_id": self.client_id, "scope": self._context.scope, **self._resource()})
        try:
            interval, lifetime = float(answer.get("interval", _SLOWER_S)), float(answer["expires_in"])
            uri = str(answer["verification_uri"])
            return DeviceGrant(
                str(answer["device_code"]),
                str(answer["user_code"]),
                uri,
                str(answer.get("verification_uri_complete") or uri),
                max(interval, 0.0),
                time.time() + lifetime,
            )
        except (KeyError, TypeError, ValueError) as error:
            raise self._senseless() from error

    def await_device(self, grant: DeviceGrant, sleep: Callable[[float], None] = time.sleep) -> Tokens:
        """Return the tokens once the person has agreed; raises CommandError where they do not, or not in time."""
        interval_s = grant.interval_s
        while time.time() < grant.expires_at:
            sleep(interval_s)
            try:
                return self._token(grant_type=_DEVICE_GRANT, device_code=grant.device_code)
            except RefusedError as error:
                if error.error == "slow_down":
                    interval_s += _SLOWER_S
                elif error.error != "authorization_pending":
                    raise
        raise CommandError("Nobody signed in with the code in time; begin anew.")

    def refresh(self, refresh_token: str) -> Tokens:
        """Return new tokens; raises RefusedError with `invalid_grant` where the session is over."""
        return self._token(grant_type="refresh_token", refresh_token=refresh_token)

    def client_credentials(self, secret: str) -> Tokens:
        """Return an access token of the program itself."""
        # No scope of people: the provider may refuse it to a program.
        scope = " ".join(
            one for one in self._context.scope.split() if one not in ("openid", "offline_access", "profile", "email")
        )
        more = {"scope": scope} if scope else {}
        return self._token(secret=secret, grant_type="client_credentials", **more)

    def revoke(self, refresh_token: str) -> bool:
        """End the session of a refresh token at the provider; return whether it offers that at all."""
        url = self.endpoint("revocation_endpoint", needed=False)
        if not url:
            return False
        form = {"token": refresh_token, "token_type_hint": "refresh_token", "client_id": self.client_id}
        self._post(url, form)
        return True

    def _token(self, *, secret: str = "", **form: str) -> Tokens:
        asked = {**form, **self._resource()}
        headers = {}
        if secret:
            pair = f"{_form_encoded(self.client_id)}:{_form_encoded(secret)}".encode()
            headers["Authorization"] = "Basic " + base64.b64encode(pair).decode()
        else:
            asked["client_id"] = self.client_id
        answer = self._post(self.endpoint("token_endpoint"), asked, headers)
        token, kind = answer.get("access_token"), answer.get("token_type")
        if not isinstance(token, str) or not token or str(kind).lower() != "bearer":
            raise self._senseless()
        try:
            lifetime_s = float(answer.get("expires_in", _LEAST_LIFETIME_S))
        except (TypeError, ValueError) as error:
            raise self._senseless() from error
        refresh = answer.get("refresh_token", "")
        claims = self._id_claims(answer.get("id_token"))
        return Tokens(token, time.time() + lifetime_s, refresh if isinstance(refresh, str) else "", claims)

    def _id_claims(self, token: Any) -> dict[str, Any]:
        """Return the claims of an ID token. It came from the provider itself, over TLS, which vouches for it."""
        if token is None:
            return {}
        try:
            part = str(token).split(".")[1]
            claims = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
            audience = claims["aud"] if isinstance(claims["aud"], list) else [claims["aud"]]
            good = claims["iss"] == self._context.issuer and self.client_id in audience
        except (ValueError, LookupError, TypeError) as error:
            raise self._senseless() from error
        if not good:
            raise CommandError("The identity token is another provider's or another program's; nothing was kept.")
        return dict(claims)

    def _resource(self) -> dict[str, str]:
        return {"resource": self._context.audience} if self._context.audience else {}

    def _metadata(self) -> dict[str, Any]:
        if not self._document:
            found = self._ask(self._context.issuer.rstrip("/") + _DISCOVERY)
            if found.get("issuer") != self._context.issuer:
                raise CommandError(
                    f"What {self._context.issuer} says of itself is another issuer's.",
                    "Check the issuer for a slip, also a slash at its end: `tokendance context list`.",
                )
            self._document = found
        return self._document

    def _post(self, url: str, form: Mapping[str, str], headers: Mapping[str, str] | None = None) -> dict[str, Any]:
        return self._ask(url, urlencode(form).encode(), headers)

    def _ask(self, url: str, body: bytes | None = None, headers: Mapping[str, str] | None = None) -> dict[str, Any]:
        more = {"Accept": "application/json", "User-Agent": "tokendance-cli", **(headers or {})}
        # The context's issuer was checked to be http(s), and so is every endpoint that it names.
        request = urllib.request.Request(url, data=body, headers=more)  # noqa: S310
        try:
            with _OPENER.open(request, timeout=_PATIENCE_S) as response:
                status, content = response.status, response.read(_ANSWER_BYTES)
        except (OSError, HTTPException) as error:
            trouble = explain(error, url, _PATIENCE_S)
            raise CommandError(
                f"The identity provider {self._context.issuer} cannot be reached: {trouble.why}.",
                "Check the issuer with `tokendance context list`, and the network.",
                exit_code=UNREACHABLE,
            ) from error
        try:
            answer = json.loads(content) if content else {}
        except ValueError as error:
            raise self._senseless() from error
        if not isinstance(answer, dict):
            raise self._senseless()
        if status >= 300:
            code, why = answer.get("error"), answer.get("error_description", "")
            raise RefusedError(self._context.issuer, str(code or f"HTTP {status}"), str(why))
        return answer

    def _senseless(self) -> CommandError:
        return CommandError(f"The answer of {self._context.issuer} makes no sense for an identity provider.")


class _EveryAnswer(urllib.request.HTTPErrorProcessor):
    """Takes every status for an answer, so that no redirect is followed: codes and secrets would go along."""

    def http_response(self, request: urllib.request.Request, response: HTTPResponse) -> HTTPResponse:
        return response

    https_response = http_response


_OPENER = urllib.request.build_opener(_EveryAnswer)


def new_secret() -> str:
    """Return 43 random characters: a state, a nonce or a PKCE verifier."""
    return _b64(secrets.token_bytes(32))


def _b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _form_encoded(text: str) -> str:
    # RFC 6749, 2.3.1: both halves are form-encoded before they are joined.
    return urlencode({"": text})[1:]
