"""Secrets at rest: sealed under a ring of keys, each bound to the place that it is for and useless anywhere else."""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
from collections.abc import Mapping, Sequence

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

RING_KEY_BYTES = 32

_FORM = "v1"
_NONCE_BYTES = 12


class UnsealError(ValueError):
    """A sealed secret cannot be opened here. The message says why, and nothing of the secret."""


class KeyRing:
    """Keys of 32 bytes for AES-256-GCM. The first one seals; all of them open. The ids are derived from the keys.

    Raises ValueError for no key at all, and for a key of another length or of too few different bytes.
    """

    def __init__(self, keys: Sequence[bytes]) -> None:
        if not keys:
            raise ValueError("a ring needs at least one key")
        for key in keys:
            check_ring_key(key)
        self._ciphers = {ring_key_id(key): AESGCM(key) for key in keys}
        self.active_id = ring_key_id(keys[0])
        self.checks: Mapping[str, bytes] = {
            ring_key_id(key): hashlib.blake2b(b"", key=key, digest_size=32, person=b"ring check").digest()
            for key in keys
        }
        """For each id a digest that tells whether another node has the same key under it, and tells nothing else."""

    def seal(self, secret: str, place: str) -> str:
        """Return a secret sealed for a place, such as a provider and its origin: printable ASCII."""
        nonce = os.urandom(_NONCE_BYTES)
        sealed = nonce + self._ciphers[self.active_id].encrypt(nonce, secret.encode(), place.encode())
        return f"{_FORM}:{self.active_id}:{base64.b64encode(sealed).decode()}"

    def open(self, sealed: str, place: str) -> str:
        """Return the secret. Raises UnsealError for a key that is not in the ring, another place, or a changed text."""
        key_id = sealed_under(sealed)
        cipher = self._ciphers.get(key_id)
        if cipher is None:
            raise UnsealError(f"it is sealed under {key_id or 'an unknown form'}, which is not in the key ring")
        try:
            data = base64.b64decode(sealed.rpartition(":")[2], validate=True)
            return cipher.decrypt(data[:_NONCE_BYTES], data[_NONCE_BYTES:], place.encode()).decode()
        except (InvalidTag, binascii.Error, ValueError) as exc:
            raise UnsealError("it was sealed for another place, or somebody changed it") from exc


def sealed_under(sealed: str) -> str:
    """Return the id of the key under which a secret is sealed; empty for a form that is not known."""
    form, _, rest = sealed.partition(":")
    return rest.partition(":")[0] if form == _FORM else ""


def ring_key_id(key: bytes) -> str:
    """Return the id of a key: another one never passes under it."""
    return "ring_" + hashlib.blake2b(key, digest_size=8, person=b"ring id").hexdigest()


def check_ring_key(key: bytes) -> None:
    """Raise ValueError for a key that protects nothing."""
    if len(key) != RING_KEY_BYTES:
        raise ValueError(f"a key of the ring has {len(key)} bytes instead of {RING_KEY_BYTES}")
    if len(set(key)) < RING_KEY_BYTES // 4:
        raise ValueError("a key of the ring is not random")
