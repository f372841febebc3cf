"""Stands where callers sign in: holds up who fails too often, and remembers who was turned away."""

from __future__ import annotations

import time

from tokendance import credentials
from tokendance.errors import GatewayError, spec_of
from tokendance.gateway.v1 import errors_pb2, usage_pb2
from tokendance_server.domain.keys.failures import FailedSignIns
from tokendance_server.domain.usage.entries import OpenRequest
from tokendance_server.domain.usage.refusals import TurnedAway
from tokendance_server.services.call import Call, Trust
from tokendance_server.services.credentials import bearer_of

_KINDS = {
    credentials.CredentialKind.API_KEY: usage_pb2.CREDENTIAL_KIND_API_KEY,
    credentials.CredentialKind.ID_TOKEN: usage_pb2.CREDENTIAL_KIND_ID_TOKEN,
    credentials.CredentialKind.HUB_SESSION: usage_pb2.CREDENTIAL_KIND_HUB_SESSION,
    credentials.CredentialKind.PROVIDER_KEY: usage_pb2.CREDENTIAL_KIND_PROVIDER_KEY,
}
# Whoever comes with a key that was one is no guesser, and whoever brings nothing tries nothing.
_NO_GUESSES = frozenset(
    {
        errors_pb2.ERROR_REASON_KEY_EXPIRED,
        errors_pb2.ERROR_REASON_KEY_REVOKED,
        errors_pb2.ERROR_REASON_KEY_SUSPENDED,
        errors_pb2.ERROR_REASON_MISSING_API_KEY,
    }
)
_LONGEST_HOST = 256


class Doorkeeper:
    """Asked before a credential is looked up, and told of each call that was refused before its caller was known."""

    def __init__(self, turned_away: TurnedAway | None = None, failures: FailedSignIns | None = None) -> None:
        self._turned_away = turned_away
        self._failures = failures

    def admit(self, call: Call) -> None:
        """Let a credential be looked up. Raises rate_limit_exceeded where too many from its address were refused."""
        if self._failures is None or not _is_public(call):
            return
        wait_s = self._failures.wait_s(call.address)
        if wait_s:
            raise GatewayError(
                errors_pb2.ERROR_REASON_RATE_LIMIT_EXCEEDED,
                f"Too many failed sign-ins came from your address; try again in {wait_s} s, with a credential that "
                "works.",
                retry_after_s=wait_s,
                origin="caller",
            )

    def refused(self, call: Call, error: GatewayError) -> None:
        """Take note of a call whose caller did not become known."""
        if self._failures is not None and _is_public(call) and _is_guess(error):
            self._failures.note(call.address)
        if self._turned_away is not None:
            self._turned_away.note(_request(call), error.reason, error.message)


NOBODY_COUNTS = Doorkeeper()
"""Of a chain that neither counts nor remembers."""


def _is_public(call: Call) -> bool:
    """Tell whether a call came from outside: administration and the trust zone have listeners of their own."""
    if call.trust is Trust.FACADE:
        return call.surface != errors_pb2.SURFACE_ADMIN
    return call.trust is Trust.PUBLIC


def _is_guess(error: GatewayError) -> bool:
    family = spec_of(error.reason).family
    return family == errors_pb2.ERROR_FAMILY_AUTHENTICATION and error.reason not in _NO_GUESSES


def _request(call: Call) -> OpenRequest:
    asserted = call.caller
    return OpenRequest(
        request_id=call.request_id,
        start_us=time.time_ns() // 1000,
        organization_id="",
        surface=call.surface,
        client_kind=asserted.client_kind if asserted is not None else "",
        client_version=asserted.client_version if asserted is not None else "",
        credential_kind=_kind_of(call),
        host=asserted.host[:_LONGEST_HOST] if asserted is not None else "",
        route=asserted.http_route if asserted is not None else call.method,
        address=call.address,
    )


def _kind_of(call: Call) -> usage_pb2.CredentialKind.ValueType:
    """Return what kind of credential came; of the credential itself nothing is kept."""
    try:
        secret = bearer_of(call.invocation_metadata() or ())
    except GatewayError:
        return usage_pb2.CREDENTIAL_KIND_OTHER
    if secret is None:
        return usage_pb2.CREDENTIAL_KIND_UNSPECIFIED
    return _KINDS.get(credentials.recognise(secret), usage_pb2.CREDENTIAL_KIND_OTHER)
