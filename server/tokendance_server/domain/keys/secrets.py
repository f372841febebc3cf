"""The secret of an API key: how it is minted, and its digest under a pepper."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping

from tokendance.credentials import API_KEY_PREFIX, base62, checksum

DIGEST_BYTES = 32
PEPPER_BYTES = 32

_BODY_DIGITS = 43


def mint() -> str:
    """Return a new secret of 256 random bits."""
    unchecked = API_KEY_PREFIX + base62(int.from_bytes(secrets.token_bytes(32)), _BODY_DIGITS)
    return unchecked + checksum(unchecked)


class PepperRing:
    """The 32-byte secrets under which digests are made. New digests use the active one; each names its pepper's id.

    `secrets` maps ids to peppers. Raises ValueError for a pepper of another length or of one repeated byte, and for
    an active id that is not there.
    """

    def __init__(self, active_id: str, secrets: Mapping[str, bytes]) -> None:
        for name, pepper in secrets.items():
            check_pepper(name, pepper)
        if active_id not in secrets:
            raise ValueError(f"the active pepper {active_id!r} is not in the ring")
        self.active_id = active_id
        others = [pepper for name, pepper in secrets.items() if name != active_id]
        self._active = secrets[active_id]
        # A keyed state costs as much as the digest itself: it is made once, and copied.
        self._keyed = hashlib.blake2b(key=self._active, digest_size=DIGEST_BYTES)
        self._others = [hashlib.blake2b(key=pepper, digest_size=DIGEST_BYTES) for pepper in others]
        self.checks = {
            name: hashlib.blake2b(b"", key=pepper, digest_size=DIGEST_BYTES, person=b"pepper check").digest()
            for name, pepper in secrets.items()
        }
        """For each id a digest that tells whether another node has the same pepper under it, and tells nothing else."""

    @classmethod
    def of(cls, pepper: bytes, *older: bytes) -> PepperRing:
        """Return a ring whose ids are derived from its peppers: another pepper never passes under one of them."""
        return cls(pepper_id(pepper), {pepper_id(one): one for one in (pepper, *older)})

    def digest(self, secret: str) -> bytes:
        """Return the digest of a secret under the active pepper."""
        state = self._keyed.copy()
        state.update(secret.encode())
        return state.digest()

    def digests(self, secret: str) -> tuple[bytes, ...]:
        """Return the digests of a secret under every pepper of the ring, the active one first."""
        found = [self.digest(secret)]
        for keyed in self._others:
            state = keyed.copy()
            state.update(secret.encode())
            found.append(state.digest())
        return tuple(found)

    def derive(self, purpose: str) -> bytes:
        """Return a 32-byte secret for another purpose of the gateway, such as `page tokens`."""
        return hashlib.blake2b(purpose.encode(), key=self._active, digest_size=32, person=b"derived").digest()


def pepper_id(pepper: bytes) -> str:
    """Return the id that is derived from a pepper."""
    return "pep_" + hashlib.blake2b(pepper, digest_size=8, person=b"pepper id").hexdigest()


def check_pepper(name: str, pepper: bytes) -> None:
    """Raise ValueError for a pepper that protects nothing; `name` is what it is called there."""
    if len(pepper) != PEPPER_BYTES:
        raise ValueError(f"the pepper {name!r} has {len(pepper)} bytes instead of {PEPPER_BYTES}")
    if len(set(pepper)) < PEPPER_BYTES // 4:
        raise ValueError(f"the pepper {name!r} is not random")
