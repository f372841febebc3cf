"""What a node says to an identity provider: discovery, keys, and the sign-ins of the console. Keeps no token."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any
from urllib.parse import quote_plus, urlencode

import yarl

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import errors_pb2
from tokendance_server.domain.catalogue.models import ProviderConfig
from tokendance_server.domain.clock import Clock
from tokendance_server.domain.identity.id_tokens import IdTokens
from tokendance_server.domain.identity.tokens import refused
from tokendance_server.domain.sessions.session import Login, SignedIn, Tokens, new_secret
from tokendance_server.identity_settings import IdentitySettings, check_issuer_url
from tokendance_server.providers.transport import Transport
from tokendance_server.telemetry import logger

_DISCOVERY = "/.well-known/openid-configuration"
_PATIENCE_S = 5.0
_FRESH_S = 600.0
_LEAST_LIFETIME_S = 60.0
_MOST_LIFETIME_S = 86_400.0


class IssuerDocuments:
    """Reads what an identity provider publishes, through the guard of everything that goes out."""

    def __init__(self, settings: IdentitySettings, transport: Transport, clock: Clock) -> None:
        self._settings = settings
        self._transport = transport
        self._clock = clock
        self._found: dict[str, Any] = {}
        self._read_at = 0.0

    async def read_keys(self) -> bytes:
        """Return the JWKS. Raises ValueError for answers that make no sense, and the errors of the transport."""
        url = self._settings.jwks_url or await self._jwks_url()
        return (await self._ask(yarl.URL(url)))[1]

    async def metadata(self) -> Mapping[str, Any]:
        """Return the discovery document, read again every ten minutes. Raises as `read_keys`."""
        now = self._clock.monotonic()
        if not self._found or now - self._read_at > _FRESH_S:
            status, body = await self._ask(yarl.URL(self._settings.issuer.rstrip("/") + _DISCOVERY))
            found: Any = json.loads(body)
            if status != 200 or not isinstance(found, dict) or found.get("issuer") != self._settings.issuer:
                raise ValueError("the discovery document is another issuer's")
            self._found, self._read_at = found, now
        return self._found

    async def endpoint(self, name: str) -> str:
        """Return an endpoint, or an empty text where there is none. Raises as `read_keys`."""
        url = (await self.metadata()).get(name)
        return check_endpoint(url) if isinstance(url, str) and url else ""

    async def post(self, url: str, form: Mapping[str, str], headers: Mapping[str, str]) -> tuple[int, dict[str, Any]]:
        """Return status and document of what a form is answered with. Raises as `read_keys`."""
        body = urlencode(form).encode()
        more = {"content-type": "application/x-www-form-urlencoded", **headers}
        status, answer = await self._ask(yarl.URL(url, encoded=True), body, more)
        document: Any = json.loads(answer) if answer else {}
        return status, document if isinstance(document, dict) else {}

    async def _jwks_url(self) -> str:
        url = (await self.metadata()).get("jwks_uri")
        return check_issuer_url(url if isinstance(url, str) else "")

    async def _ask(
        self, url: yarl.URL, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, bytes]:
        deadline = asyncio.get_running_loop().time() + _PATIENCE_S
        provider = ProviderConfig("identity", "openid", base_url=str(url), connect_timeout_s=_PATIENCE_S)
        told = {"accept": "application/json", **(headers or {})}
        if body is None:
            answer = await self._transport.get(provider, url, told, deadline)
        else:
            answer = await self._transport.post(provider, url, told, body, deadline)
        try:
            if body is None and answer.status != 200:
                raise ValueError(f"the identity provider answered with status {answer.status}")
            return answer.status, await answer.read_body()
        finally:
            answer.close()


class OpenIdSignIn:
    """Signs people in at an identity provider by authorization code with PKCE. Satisfies SignInSource."""

    def __init__(
        self, settings: IdentitySettings, documents: IssuerDocuments, id_tokens: IdTokens, clock: Clock
    ) -> None:
        self._settings = settings
        self._console = settings.console
        self._documents = documents
        self._id_tokens = id_tokens
        self._clock = clock

    def new_login(self, next_path: str, redirect_uri: str, *, fresh: bool, now: datetime) -> Login:
        """Return a sign-in that begins. Raises failed_precondition."""
        if not self._console.client_id:
            raise GatewayError(
                errors_pb2.ERROR_REASON_FAILED_PRECONDITION,
                "The console is no client of the identity provider yet; set client_id in [server.identity.console].",
            )
        return Login(new_secret(), new_secret(), next_path, self._settings.issuer, redirect_uri, fresh, now)

    async def authorization_url(self, login: Login, state: str) -> str:
        """Return where to send a person. Raises identity_provider_unavailable."""
        challenge = base64.urlsafe_b64encode(hashlib.sha256(login.code_verifier.encode()).digest()).rstrip(b"=")
        asked = {
            "response_type": "code",
            "client_id": self._console.client_id,
            "redirect_uri": login.redirect_uri,
            "scope": self._console.scope,
            "state": state,
            "nonce": login.nonce,
            "code_challenge": challenge.decode(),
            "code_challenge_method": "S256",
            "resource": self._settings.audience,
        }
        prompts = ["login"] if login.fresh else []
        if "offline_access" in self._console.scope.split():
            # OpenID Connect gives a refresh token for it only where the person was asked.
            prompts.append("consent")
        asked |= {"prompt": " ".join(prompts)} if prompts else {}
        # Makes the provider say when the person proved who they are.
        asked["max_age"] = "0" if login.fresh else str(int(self._console.lifetime_s))
        url = await self._endpoint("authorization_endpoint")
        return f"{url}{'&' if '?' in url else '?'}{urlencode(asked)}"

    async def redeem(self, login: Login, code: str, issuer: str) -> SignedIn:
        """Return what a code is good for. Raises invalid_id_token, identity_provider_unavailable."""
        await self._check_answerer(login, issuer)
        answer = await self._token(
            grant_type="authorization_code",
            code=code,
            redirect_uri=login.redirect_uri,
            code_verifier=login.code_verifier,
        )
        if answer is None:
            raise refused("The identity provider does not take the code of this sign-in; begin it anew.")
        id_token = answer.get("id_token")
        if not isinstance(id_token, str):
            raise refused("The identity provider sent no identity token; the scope must name openid.")
        proof = await self._id_tokens.check(
            id_token, login.nonce, proved_after=login.create_time if login.fresh else None
        )
        return SignedIn(self._tokens(answer, id_token, ""), proof.sign_in_time)

    def follow(self, link: str) -> tuple[SignedIn, str, datetime]:
        """Refuse: links are of the development issuer."""
        raise refused("This node has an identity provider, so it takes no sign-in links; sign in there.")

    async def renew(self, tokens: Tokens, sign_in_time: datetime) -> Tokens | None:
        """Return tokens in place of some that end, or None. Raises identity_provider_unavailable."""
        if not tokens.refresh_token:
            return None
        answer = await self._token(grant_type="refresh_token", refresh_token=tokens.refresh_token)
        return None if answer is None else self._tokens(answer, tokens.id_token, tokens.refresh_token)

    async def end_url(self, tokens: Tokens) -> str:
        """Return where the identity provider ends its own session; empty: nowhere, or it cannot be asked now."""
        try:
            url = await self._documents.endpoint("end_session_endpoint")
        except (ValueError, GatewayError) as exc:
            # The session here is over all the same.
            _tell_unreached(exc)
            return ""
        hint = {"id_token_hint": tokens.id_token} if tokens.id_token else {}
        asked = urlencode({"client_id": self._console.client_id, **hint})
        return f"{url}{'&' if '?' in url else '?'}{asked}" if url else ""

    def _tokens(self, answer: Mapping[str, Any], id_token: str, refresh_token: str) -> Tokens:
        token, kind = answer.get("access_token"), answer.get("token_type")
        if not isinstance(token, str) or not token or str(kind).lower() != "bearer":
            raise refused("The identity provider sent no access token that can be used.")
        lifetime = answer.get("expires_in", _LEAST_LIFETIME_S)
        if isinstance(lifetime, bool) or not isinstance(lifetime, (int, float)):
            lifetime = _LEAST_LIFETIME_S
        again = answer.get("refresh_token")
        return Tokens(
            token,
            self._clock.now().timestamp() + min(max(float(lifetime), 0.0), _MOST_LIFETIME_S),
            again if isinstance(again, str) and again else refresh_token,
            id_token,
        )

    async def _check_answerer(self, login: Login, issuer: str) -> None:
        """Refuse an answer that names another issuer (RFC 9207), or none where ours always does."""
        try:
            metadata = await self._documents.metadata()
        except (ValueError, GatewayError) as exc:
            raise _unreachable(exc) from exc
        always = metadata.get("authorization_response_iss_parameter_supported") is True
        if (
            (not issuer and always)
            or issuer not in ("", self._settings.issuer)
            or login.issuer != self._settings.issuer
        ):
            raise refused("The sign-in was answered by another identity provider; nothing was taken from it.")

    async def _token(self, **form: str) -> dict[str, Any] | None:
        """Return what the token endpoint answers, or None where it refuses. Raises identity_provider_unavailable."""
        url = await self._endpoint("token_endpoint")
        asked = {**form, "resource": self._settings.audience}
        headers: dict[str, str] = {}
        secret = self._console.client_secret.get_secret_value()
        if secret:
            # RFC 6749, 2.3.1: both halves are form-encoded before they are joined.
            pair = f"{quote_plus(self._console.client_id)}:{quote_plus(secret)}".encode()
            headers["authorization"] = "Basic " + base64.b64encode(pair).decode()
        else:
            asked["client_id"] = self._console.client_id
        try:
            status, answer = await self._documents.post(url, asked, headers)
        except (ValueError, GatewayError) as exc:
            raise _unreachable(exc) from exc
        if status == 200:
            return answer
        if status >= 500 or answer.get("error") != "invalid_grant":
            raise _unreachable(ValueError(f"status {status}, {str(answer.get('error', ''))[:64]!r}"))
        return None

    async def _endpoint(self, name: str) -> str:
        try:
            url = await self._documents.endpoint(name)
        except (ValueError, GatewayError) as exc:
            raise _unreachable(exc) from exc
        if not url:
            raise _unreachable(ValueError(f"it has no {name}"))
        return url


def check_endpoint(url: str) -> str:
    """Return the URL of an endpoint, whose query may be its own; raises ValueError where it is not safe to ask."""
    check_issuer_url(url.partition("?")[0])
    if "#" in url:
        raise ValueError("an endpoint has no fragment")
    return url


def _unreachable(cause: Exception) -> GatewayError:
    _tell_unreached(cause)
    return GatewayError(
        errors_pb2.ERROR_REASON_IDENTITY_PROVIDER_UNAVAILABLE,
        "The identity provider cannot be asked now, or refuses this console; try again, then tell its operator.",
        retry_after_s=60,
    )


def _tell_unreached(cause: Exception) -> None:
    logger().warning("identity_provider_failed", error=type(cause).__name__, detail=str(cause))
