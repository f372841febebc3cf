"""What is told to people who send something else where an API key belongs."""

from __future__ import annotations

import pytest

from tokendance_server.domain.lookalikes import CredentialKind, misplaced, recognise
from tokendance_server.domain.secrets import mint

JWT = "eyJhbGciOiJSUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.c2lnbmF0dXJl"

CASES = [
    (JWT, CredentialKind.ID_TOKEN, "id_token_not_accepted"),
    ("eyJhbGciOiJub25lIn0.eyJzdWIiOiIxIn0.", CredentialKind.ID_TOKEN, "id_token_not_accepted"),
    ("eyJlbmMiOiJBMjU2R0NNIn0.a.b.c.d", CredentialKind.ID_TOKEN, "id_token_not_accepted"),
    ("sk-proj-abcdefghijklmnopqrstuvwxyz", CredentialKind.PROVIDER_KEY, "provider_key_not_accepted"),
    ("sk-ant-api03-abcdefghijklmnop", CredentialKind.PROVIDER_KEY, "provider_key_not_accepted"),
    ("AIzaSyD-0123456789abcdefghijklmnopqrstu", CredentialKind.PROVIDER_KEY, "provider_key_not_accepted"),
    ("gsk_0123456789", CredentialKind.PROVIDER_KEY, "provider_key_not_accepted"),
    ("hub_session_0123", CredentialKind.HUB_SESSION, "hub_session_not_accepted"),
    ("$TOKENDANCE_API_KEY", CredentialKind.PLACEHOLDER, "invalid_api_key"),
    ("%TOKENDANCE_API_KEY%", CredentialKind.PLACEHOLDER, "invalid_api_key"),
    ("<your key>", CredentialKind.PLACEHOLDER, "invalid_api_key"),
    ("YOUR_API_KEY", CredentialKind.PLACEHOLDER, "invalid_api_key"),
    ("undefined", CredentialKind.PLACEHOLDER, "invalid_api_key"),
    ("hunter2", CredentialKind.UNKNOWN, "invalid_api_key"),
    ("eyJ.not", CredentialKind.UNKNOWN, "invalid_api_key"),
    ("\ud800", CredentialKind.UNKNOWN, "invalid_api_key"),
]


@pytest.mark.parametrize(("credential", "kind", "code"), CASES)
def test_a_credential_is_recognised_and_answered_by_its_own_code(
    credential: str, kind: CredentialKind, code: str
) -> None:
    """The code says what was sent; the sentence says what to send instead, and never repeats the credential."""
    error = misplaced(credential)
    assert recognise(credential) is kind
    assert error.code == code
    assert error.origin == "caller"
    assert "tdk_" in error.message
    assert credential not in error.message
    assert not error.metadata


def test_a_key_of_ours_is_recognised_even_when_it_is_broken() -> None:
    """What starts as ours is judged as ours."""
    assert recognise(mint()) is CredentialKind.API_KEY
    assert recognise("tdk_cut") is CredentialKind.API_KEY


@pytest.mark.parametrize(
    ("credential", "provider"), [("sk-ant-x", "Anthropic"), ("sk-or-x", "OpenRouter"), ("sk-x", "OpenAI")]
)
def test_the_longest_prefix_names_the_provider(credential: str, provider: str) -> None:
    """A person who mixed up two keys learns which one."""
    assert provider in misplaced(credential).message


def test_a_hostile_credential_is_judged_in_linear_time() -> None:
    """Thirty kilobytes of almost-tokens end at once; the test's own time limit is the bound."""
    for hostile in ("eyJ" + "." * 30_000, "eyJ" + "a." * 15_000, "your" + "-" * 30_000 + "\n", "x" * 30_000 + "!"):
        assert misplaced(hostile).spec.http_status == 401
