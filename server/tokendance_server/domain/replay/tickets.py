"""What a caller's secret makes of an idempotency key: where the answer is, whether the request is the same, its seal.

Everything is derived from the presented secret, which is kept nowhere. Neither the idempotency key nor anything of the
request can be read from what is stored, and nobody opens an answer without the secret.
"""

from __future__ import annotations

import hmac
import os
import re
import zlib
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from google.protobuf.message import Message

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import errors_pb2
from tokendance_server.domain.sealing import UnsealError

_KEY = re.compile(r"[\x21-\x7e]{1,255}")
_NONCE_BYTES = 12


@dataclass(frozen=True, slots=True)
class Ticket:
    """One call with an idempotency key. `scope` (32 bytes) is unique to key and secret, `fingerprint` to the request.

    `seal_key` is for AES-256-GCM, for this scope alone.
    """

    scope: bytes
    fingerprint: bytes
    seal_key: bytes = field(repr=False)

    def seal(self, answer: bytes) -> bytes:
        """Return an answer that only a holder of the secret can read, bound to this scope and this request."""
        nonce = os.urandom(_NONCE_BYTES)
        # Streams are many small messages of the same form: they shrink to a fraction.
        packed = zlib.compress(answer, 1)
        return nonce + AESGCM(self.seal_key).encrypt(nonce, packed, self.scope + self.fingerprint)

    def open(self, sealed: bytes) -> bytes:
        """Return the answer. Raises UnsealError for one that was sealed for another call, or changed."""
        try:
            packed = AESGCM(self.seal_key).decrypt(
                sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], self.scope + self.fingerprint
            )
            return zlib.decompress(packed)
        except (InvalidTag, ValueError, zlib.error) as exc:
            raise UnsealError("it was sealed for another call, or somebody changed it") from exc


def ticket_of(secret: str, key: str, method: str, request: Message) -> Ticket:
    """Return the ticket of a call. `method` tells a stream from an answer in one message.

    The request is compared in the canonical form: white space and the order of keys in JSON make no difference. Raises
    invalid_request for a key that is not 1 to 255 printable ASCII characters without spaces.
    """
    if _KEY.fullmatch(key) is None:
        raise GatewayError(
            errors_pb2.ERROR_REASON_INVALID_REQUEST,
            "The idempotency key must have 1 to 255 printable ASCII characters, none of them a space.",
            param="idempotency_key",
            origin="caller",
        )
    body = method.encode() + b"\0" + request.SerializeToString(deterministic=True)
    named = key.encode()
    return Ticket(
        scope=_derive(secret, b"replay scope", named),
        fingerprint=_derive(secret, b"replay fingerprint", body),
        seal_key=_derive(secret, b"replay seal", named),
    )


def _derive(secret: str, purpose: bytes, data: bytes) -> bytes:
    return hmac.digest(secret.encode(), purpose + b"\0" + data, "sha256")
