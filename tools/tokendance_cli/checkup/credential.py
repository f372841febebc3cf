"""Which kind of credential there is, by its form alone: nothing is sent, nothing of it is shown."""

from __future__ import annotations

from tokendance.credentials import CredentialKind, check_form, provider_of, recognise
from tokendance.errors import GatewayError
from tokendance_cli.checkup.finding import Finding, State, Subject
from tokendance_cli.failures import USAGE

CHECK = "credential"
_NOT_SENT = "It was not sent anywhere."
_GET_ONE = "Set TOKENDANCE_API_KEY to your TokenDance API key: it starts with tdk_ and has 53 characters."


def examine_credential(subject: Subject) -> Finding:
    """Tell what the credential is. Fails for everything but a whole TokenDance API key."""
    where = subject.source
    key = subject.key
    if not key:
        return _failed(f"{where} is not set or empty: there is no API key.", _GET_ONE)
    if key[0] in "\"'" and key[-1] == key[0]:
        return _failed(f"{where} holds quotation marks around the key. {_NOT_SENT}", "Take the quotation marks away.")
    if key[:7].lower() == "bearer ":
        return _failed(f"{where} begins with the word Bearer. {_NOT_SENT}", "Keep only the key; programs add the word.")
    match recognise(key):
        case CredentialKind.API_KEY:
            return _api_key(subject)
        case CredentialKind.ID_TOKEN:
            return _failed(
                f"{where} holds an ID token (a JWT): it signs people in and calls no model. {_NOT_SENT}", _GET_ONE
            )
        case CredentialKind.HUB_SESSION:
            return _failed(
                f"{where} holds an AgentHub session, which is no model credential. {_NOT_SENT}",
                "Set TOKENDANCE_API_KEY to the TokenDance API key of the runtime adapter (tdk_…).",
            )
        case CredentialKind.PROVIDER_KEY:
            return _failed(
                f"{where} holds a provider's key, by its form one of {provider_of(key)}. {_NOT_SENT}",
                _GET_ONE,
                "Rotate the provider key if others can read this environment: it belongs on the gateway alone.",
            )
        case CredentialKind.PLACEHOLDER:
            return _failed(
                f"{where} holds a placeholder or the name of a variable that nothing has filled in. {_NOT_SENT}",
                _GET_ONE,
            )
        case _:
            return _failed(f"{where} holds something that is no TokenDance API key. {_NOT_SENT}", _GET_ONE)


def _api_key(subject: Subject) -> Finding:
    try:
        check_form(subject.key)
    except GatewayError as error:
        return _failed(f"{subject.source}: {error.message} {_NOT_SENT}", error.spec.check_first)
    if subject.credential.rstrip("\r\n") != subject.key:
        return Finding(
            CHECK,
            State.WARNING,
            f"{subject.source} holds a TokenDance API key with white space around it, which programs may send along.",
            ("Take the white space away.",),
        )
    return Finding(CHECK, State.OK, f"{subject.source} holds a TokenDance API key, and its checksum holds.")


def _failed(told: str, *do: str) -> Finding:
    return Finding(CHECK, State.FAILED, told, do, exit_code=USAGE)
