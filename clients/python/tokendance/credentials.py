"""Credentials by their form alone: the published form of an API key, and what people send in its place.

Knows no store and sends nothing: the server refuses by it before it looks anything up, and a caller's tools say what is
wrong before a secret leaves the machine. No credential is ever quoted back.
"""

from __future__ import annotations

import enum
import re
import zlib

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import errors_pb2
from tokendance.gateway.v1.errors_pb2 import ErrorReason

API_KEY_PREFIX = "tdk_"
SECRET_LENGTH = 53
"""`tdk_`, 43 characters that hold 256 bits, and 6 that hold a CRC32 of all before them."""
SECRET_PATTERN = "tdk_[0-9A-Za-z]{49}"  # noqa: S105 - the form of every secret, and no secret
"""The published regular expression, for secret scanners."""

_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_CHECKSUM_DIGITS = 6
_SECRET = re.compile(SECRET_PATTERN, re.ASCII)

# A header in base64url always starts so, because its JSON starts with `{"`; an encrypted token has five parts.
_JWT = re.compile(r"eyJ[A-Za-z0-9_-]*(\.[A-Za-z0-9_-]*){2,4}", re.ASCII)
_PROVIDERS = (
    ("sk-ant-", "Anthropic"),
    ("sk-or-", "OpenRouter"),
    ("sk-", "OpenAI or a provider like it"),
    ("AIza", "Google"),
    ("gsk_", "Groq"),
    ("xai-", "xAI"),
    ("hf_", "Hugging Face"),
    ("nvapi-", "NVIDIA"),
    ("pplx-", "Perplexity"),
    ("r8_", "Replicate"),
    ("AKIA", "AWS"),
    ("ABSK", "AWS"),
)
_LEAST_PROVIDER_KEY = 20
_HUB_PREFIXES = ("hub_", "agenthub_")
_PLACEHOLDER = re.compile(
    r"[$%<{].*|(your|my|the|replace|insert|paste)[-_ ].*|TOKENDANCE_.*|api[-_ ]?key|x{3,}|none|null|undefined|changeme",
    re.ASCII | re.IGNORECASE | re.DOTALL,
)


class CredentialKind(enum.Enum):
    """What a credential looks like."""

    API_KEY = enum.auto()
    ID_TOKEN = enum.auto()
    HUB_SESSION = enum.auto()
    PROVIDER_KEY = enum.auto()
    PLACEHOLDER = enum.auto()
    UNKNOWN = enum.auto()


def recognise(credential: str) -> CredentialKind:
    """Return what a credential looks like; says nothing about whether it is valid."""
    if credential.startswith(API_KEY_PREFIX):
        return CredentialKind.API_KEY
    if _JWT.fullmatch(credential):
        return CredentialKind.ID_TOKEN
    if credential.startswith(_HUB_PREFIXES):
        return CredentialKind.HUB_SESSION
    if provider_of(credential):
        return CredentialKind.PROVIDER_KEY
    if _PLACEHOLDER.fullmatch(credential):
        return CredentialKind.PLACEHOLDER
    return CredentialKind.UNKNOWN


def is_stray(value: str) -> bool:
    """Tell whether a value that stands where no credential belongs is one: a key of ours or a provider's, or a token.

    Short texts that only begin like a provider's key are none: people look for words.
    """
    kind = recognise(value)
    if kind is CredentialKind.PROVIDER_KEY:
        return len(value) >= _LEAST_PROVIDER_KEY
    return kind in (CredentialKind.API_KEY, CredentialKind.ID_TOKEN)


def stray_in_cookies(cookies: str) -> bool:
    """Tell whether a Cookie header carries a key of ours or a provider's; whose session a token is cannot be told."""
    values = (pair.partition("=")[2].strip().strip('"') for pair in cookies.split(";"))
    return any(is_stray(value) and recognise(value) is not CredentialKind.ID_TOKEN for value in values)


def provider_of(credential: str) -> str:
    """Return whose provider key a credential looks like, such as `Anthropic`; empty where it is no such key."""
    return next((provider for prefix, provider in _PROVIDERS if credential.startswith(prefix)), "")


def misplaced(credential: str, kind: CredentialKind | None = None, *, people: bool = False) -> GatewayError:
    """Return the error for a credential that does not belong here: what was sent, and what to send instead.

    What belongs here is an API key of ours, or where people sign in (`people`) an access token of TokenDance ID.
    `kind` is what the credential is, where the caller knows better than `recognise`.
    """
    instead = "an access token of TokenDance ID" if people else "a TokenDance API key (tdk_…)"
    unknown = errors_pb2.ERROR_REASON_INVALID_ID_TOKEN if people else errors_pb2.ERROR_REASON_INVALID_API_KEY
    match kind or recognise(credential):
        case CredentialKind.ID_TOKEN:
            return _error(
                errors_pb2.ERROR_REASON_ID_TOKEN_NOT_ACCEPTED,
                "A signed ID token was sent; it signs people in and calls no model. Send a TokenDance API key (tdk_…).",
            )
        case CredentialKind.HUB_SESSION if people:
            return _error(
                errors_pb2.ERROR_REASON_HUB_SESSION_NOT_ACCEPTED,
                f"An AgentHub session was sent; it signs nobody in here. Send {instead}.",
            )
        case CredentialKind.HUB_SESSION:
            return _error(
                errors_pb2.ERROR_REASON_HUB_SESSION_NOT_ACCEPTED,
                "An AgentHub session was sent; it is no model credential. Send the TokenDance API key (tdk_…) of the "
                "runtime adapter.",
            )
        case CredentialKind.PROVIDER_KEY:
            whose = provider_of(credential)
            return _error(
                errors_pb2.ERROR_REASON_PROVIDER_KEY_NOT_ACCEPTED,
                f"A key that looks like one of {whose} was sent. Send {instead}, and rotate that one: it has left its "
                "safe place.",
            )
        case CredentialKind.PLACEHOLDER:
            return _error(
                unknown,
                "A placeholder was sent instead of a credential: the variable that should hold it is not set or not "
                f"expanded. Send {instead}.",
            )
        case _ if people:
            return _error(unknown, f"The credential signs nobody in. Send {instead}, a text with two dots in it.")
        case _:
            return _error(
                unknown, "The credential is not a TokenDance API key, which starts with tdk_ and has 53 characters."
            )


def check_form(credential: str) -> None:
    """Let a well-formed secret pass; asks no store.

    Raises invalid_api_key where `tdk_…` was mistyped or cut, and else what `misplaced` says of the credential.
    """
    if not credential.startswith(API_KEY_PREFIX):
        raise misplaced(credential)
    if len(credential) != SECRET_LENGTH:
        raise _error(
            errors_pb2.ERROR_REASON_INVALID_API_KEY,
            f"The TokenDance API key has {len(credential)} characters instead of {SECRET_LENGTH}; copy it whole.",
        )
    if _SECRET.fullmatch(credential) is None or not _checksum_holds(credential):
        raise _error(
            errors_pb2.ERROR_REASON_INVALID_API_KEY,
            "The TokenDance API key is mistyped: its checksum does not hold; copy it again, whole.",
        )


def checksum(text: str) -> str:
    """Return the six characters that end a secret, from the ASCII characters before them."""
    return base62(zlib.crc32(text.encode("ascii")), _CHECKSUM_DIGITS)


def base62(number: int, digits: int) -> str:
    """Return a number from 0 in exactly so many digits of base 62; what does not fit is cut off at the front."""
    out = []
    for _ in range(digits):
        number, digit = divmod(number, 62)
        out.append(_ALPHABET[digit])
    return "".join(reversed(out))


def _checksum_holds(secret: str) -> bool:
    return secret[-_CHECKSUM_DIGITS:] == checksum(secret[:-_CHECKSUM_DIGITS])


def _error(reason: ErrorReason.ValueType, message: str) -> GatewayError:
    return GatewayError(reason, message, origin="caller")
