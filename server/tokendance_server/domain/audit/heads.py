"""Signed ends of chains: who has one of them elsewhere can tell that the chain before it is as it was.

Ed25519 over one JSON text that names the chain, the place, the digest and the time.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from tokendance_server.domain.audit.events import ChainHead, canonical

KEY_FILE = "audit.pem"
"""The signing key of a data directory."""

_PURPOSE = "tokendance audit head 1"


@dataclass(frozen=True, slots=True)
class SignedHead:
    """The end of an organization's chain, or of PLATFORM's, at a time; `signature` has 64 bytes."""

    organization_id: str
    head: ChainHead
    time: datetime
    signature: bytes
    signing_key_id: str


class HeadVerifier:
    """The public half of a signing key, which `key_id` names. Raises ValueError where the PEM is none."""

    def __init__(self, pem: bytes) -> None:
        key = serialization.load_pem_public_key(pem)
        if not isinstance(key, Ed25519PublicKey):
            raise ValueError("it holds no public key of Ed25519")  # noqa: TRY004 - of what is in the file, not of a type
        self._key = key
        self.key_id = _key_id(key)

    def signed(self, head: SignedHead) -> bool:
        """Tell whether a head was signed with this key and says what it said then."""
        try:
            self._key.verify(head.signature, _said(head.organization_id, head.head, head.time))
        except InvalidSignature:
            return False
        return head.signing_key_id == self.key_id


class HeadSigner:
    """A signing key. Raises ValueError where the PEM holds no private key of Ed25519."""

    def __init__(self, pem: bytes) -> None:
        try:
            key = serialization.load_pem_private_key(pem, password=None)
        except TypeError as exc:
            raise ValueError("it is locked with a password") from exc
        if not isinstance(key, Ed25519PrivateKey):
            raise ValueError("it holds no private key of Ed25519")  # noqa: TRY004 - of what is in the file, not of a type
        self._key = key
        self.key_id = _key_id(key.public_key())

    @property
    def public_pem(self) -> bytes:
        """The public half, in PEM."""
        return self._key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )

    def sign(self, organization_id: str, head: ChainHead, time: datetime) -> SignedHead:
        """Return the signed end of a chain."""
        signature = self._key.sign(_said(organization_id, head, time))
        return SignedHead(organization_id, head, time, signature, self.key_id)


def new_signing_key() -> bytes:
    """Return a new signing key in PEM."""
    return Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _key_id(key: Ed25519PublicKey) -> str:
    raw = key.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    return f"aud_{hashlib.sha256(raw).hexdigest()[:16]}"


def _said(organization_id: str, head: ChainHead, time: datetime) -> bytes:
    moment = time.astimezone(UTC).isoformat(timespec="microseconds")
    return canonical([_PURPOSE, organization_id, head.sequence, head.digest.hex(), moment]).encode()
