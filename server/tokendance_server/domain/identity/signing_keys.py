"""The public keys of an identity provider: read when they are needed, seldom, and by nobody's leave but the clock's."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from joserfc.errors import JoseError
from joserfc.jwk import ECKey, OKPKey, RSAKey

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import errors_pb2
from tokendance_server.domain.clock import Clock

PublicKey = RSAKey | ECKey | OKPKey

_TYPES: Mapping[str, type[PublicKey]] = {"RSA": RSAKey, "EC": ECKey, "OKP": OKPKey}
_LEAST_RSA_BITS = 2048
_MOST_KEYS = 100
_FRESH_S = 600.0
# Also after a failure: whoever sends tokens decides nothing about how often somebody else's server is asked.
_BETWEEN_READS_S = 60
# For how long a provider that cannot be reached is believed to have withdrawn no key.
_STALE_S = 3600.0


class SigningKeys:
    """Keys by id, from a JWKS that `fetch` returns; `report` gets an error when reading begins to fail, None after.

    The document is read at most once a minute: every ten minutes while keys are asked for, and sooner for an id that is
    not in it. `fetch` may raise anything.
    """

    def __init__(
        self, fetch: Callable[[], Awaitable[bytes]], clock: Clock, report: Callable[[Exception | None], None]
    ) -> None:
        self._fetch = fetch
        self._clock = clock
        self._report = report
        self._keys: Mapping[str, PublicKey] = {}
        self._read_at: float | None = None
        self._asked_at: float | None = None
        self._reading: asyncio.Task[None] | None = None
        self._failing = False
        self.generation = 0
        """Counts the readings: what was found good by keys of an earlier one must be looked at again."""

    async def find(self, kid: str) -> PublicKey | None:
        """Return the key of an id, or None where the provider has none of it.

        Raises identity_provider_unavailable where the keys could not be read, or not for an hour.
        """
        self._begin_reading(known=kid in self._keys)
        if (kid not in self._keys or self._stale) and self._reading is not None:
            # Shielded: the reading is everybody's, and goes on when the call that waits is given up.
            await asyncio.shield(self._reading)
        if self._stale:
            raise GatewayError(
                errors_pb2.ERROR_REASON_IDENTITY_PROVIDER_UNAVAILABLE,
                "The keys of the identity provider cannot be read now, so its tokens cannot be checked; try again in a "
                "minute.",
                retry_after_s=_BETWEEN_READS_S,
            )
        return self._keys.get(kid)

    async def close(self) -> None:
        """Give up a reading that is going on."""
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.wait({self._reading})

    @property
    def _stale(self) -> bool:
        return self._read_at is None or self._clock.monotonic() - self._read_at > _STALE_S

    def _begin_reading(self, *, known: bool) -> None:
        now = self._clock.monotonic()
        due = not known or self._read_at is None or now - self._read_at >= _FRESH_S
        allowed = self._asked_at is None or now - self._asked_at >= _BETWEEN_READS_S
        if due and allowed and self._reading is None:
            self._asked_at = now
            self._reading = asyncio.create_task(self._read(now), name="signing keys")

    async def _read(self, asked_at: float) -> None:
        try:
            keys = read_keys(await self._fetch())
        except Exception as exc:  # noqa: BLE001 - whatever it was is told, and tried again when it is asked for
            if not self._failing:
                self._report(exc)
            self._failing = True
        else:
            self._keys, self._read_at = keys, asked_at
            self.generation += 1
            if self._failing:
                self._report(None)
            self._failing = False
        finally:
            self._reading = None


def read_keys(document: bytes) -> dict[str, PublicKey]:
    """Return the keys of a JWKS that verify signatures, by id. Left out are keys without id, secret, weak and odd ones.

    Raises ValueError where the document is no JWKS.
    """
    try:
        found = json.loads(document)["keys"][:_MOST_KEYS]
    except (ValueError, KeyError, TypeError, RecursionError) as exc:
        raise ValueError("the document is no JWKS") from exc
    keys: dict[str, PublicKey] = {}
    for entry in found:
        key = _usable(entry)
        if key is not None:
            keys.setdefault(entry["kid"], key)
    return keys


def _usable(entry: Any) -> PublicKey | None:
    if not isinstance(entry, dict) or not isinstance(entry.get("kid"), str) or "d" in entry or "k" in entry:
        return None
    kind = _TYPES.get(str(entry.get("kty")))
    if kind is None or entry.get("use", "sig") != "sig":
        return None
    try:
        if kind is RSAKey and _bits(entry["n"]) < _LEAST_RSA_BITS:
            return None
        return kind.import_key(entry)
    except (JoseError, ValueError, TypeError, KeyError, AttributeError):
        return None


def _bits(number: str) -> int:
    """Return the size of a number as a JWK writes it."""
    return int.from_bytes(base64.urlsafe_b64decode(number + "=" * (-len(number) % 4))).bit_length()
