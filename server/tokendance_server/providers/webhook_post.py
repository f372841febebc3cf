"""Posts to webhooks: through the guarded connector, without redirects, cookies or proxies, and within 10 seconds."""

from __future__ import annotations

import ssl

import aiohttp
import yarl
from aiohttp.abc import AbstractResolver

from tokendance_server.domain.egress import EgressPolicy, EgressRefusedError
from tokendance_server.domain.webhooks.target import check_target
from tokendance_server.domain.webhooks.webhook import PostFailedError
from tokendance_server.providers.guarded_connector import GuardedConnector
from tokendance_server.telemetry import logger

TIMEOUT_S = 10.0
_ANSWER_BYTES = 4096


class WebhookPost:
    """Satisfies Post. Names are resolved by `resolver`, or else as the system does; `tls` checks certificates."""

    def __init__(
        self,
        egress: EgressPolicy,
        *,
        resolver: AbstractResolver | None = None,
        tls: ssl.SSLContext | None = None,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        self._egress = egress
        self._resolver = resolver
        self._tls = tls
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)
        self._timeout_s = timeout_s

    async def __call__(self, url: str, headers: dict[str, str], body: bytes) -> None:
        """Post JSON; what is answered with 2xx is taken. Raises PostFailedError, which names no address."""
        try:
            check_target(url, self._egress)
            status = await self._ask(url, headers, body)
        except EgressRefusedError as exc:
            raise self._refused(exc) from None
        except aiohttp.ClientConnectorError as exc:
            if isinstance(exc.os_error, EgressRefusedError):
                raise self._refused(exc.os_error) from None
            raise PostFailedError("No connection came about.") from None
        except TimeoutError:
            raise PostFailedError(f"It did not answer within {self._timeout_s:g} s.") from None
        except (aiohttp.ClientError, OSError, ValueError):
            raise PostFailedError("The connection broke, or what came was no answer.") from None
        if 300 <= status < 400:
            raise PostFailedError(f"It answered {status}; redirects are not followed.")
        if not 200 <= status < 300:
            raise PostFailedError(f"It answered {status}.")

    async def _ask(self, url: str, headers: dict[str, str], body: bytes) -> int:
        # One connection for each call: warnings are rare, and a kept one may belong to another by the next.
        connector = GuardedConnector(
            self._egress, self._resolver or aiohttp.ThreadedResolver(), tls=self._tls, force_close=True
        )
        async with (
            aiohttp.ClientSession(
                connector=connector,
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,
                auto_decompress=False,
                timeout=self._timeout,
            ) as session,
            session.post(
                yarl.URL(url, encoded=True),
                data=body,
                headers={"content-type": "application/json", "user-agent": "tokendance-gateway", **headers},
                allow_redirects=False,
            ) as answer,
        ):
            await answer.content.read(_ANSWER_BYTES)
            return answer.status

    @staticmethod
    def _refused(why: EgressRefusedError) -> PostFailedError:
        logger().warning("webhook_refused", why=str(why))
        return PostFailedError("The gateway may not connect to its address.")
