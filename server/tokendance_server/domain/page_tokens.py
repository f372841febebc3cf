"""Page tokens: opaque places in a list, good only for the caller and the filter that they were given to."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import errors_pb2

_MAC_BYTES = 16


class PageTokens:
    """Seals and opens page tokens under one secret of 32 bytes."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def seal(self, place: str, binding: str) -> str:
        """Return the token of a place; `binding` names everything that must be the same when it comes back."""
        text = place.encode()
        return base64.urlsafe_b64encode(self._mac(text, binding) + text).decode()

    def open(self, token: str, binding: str) -> str:
        """Return the place in a token. Raises invalid_request (page_token) for any other token than ours for this."""
        try:
            sealed = base64.b64decode(token.encode("ascii"), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError) as exc:
            raise _not_ours() from exc
        mac, text = sealed[:_MAC_BYTES], sealed[_MAC_BYTES:]
        if not hmac.compare_digest(mac, self._mac(text, binding)):
            raise _not_ours()
        return text.decode()

    def _mac(self, text: bytes, binding: str) -> bytes:
        bound = binding.encode()
        # The length keeps the two apart: no other pair of texts gives the same bytes.
        return hashlib.blake2b(len(bound).to_bytes(4) + bound + text, key=self._secret, digest_size=_MAC_BYTES).digest()


def _not_ours() -> GatewayError:
    return GatewayError(
        errors_pb2.ERROR_REASON_INVALID_REQUEST,
        "The page_token belongs to another list or is damaged; start again without it, with the filters that you want.",
        param="page_token",
        origin="caller",
    )
