"""The published form of an API key, and what is told to people who send something else in its place."""

from __future__ import annotations

import pytest

from tokendance.credentials import SECRET_LENGTH, CredentialKind, base62, check_form, checksum, misplaced, recognise
from tokendance.errors import GatewayError

JWT = "eyJhbGciOiJSUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.c2lnbmF0dXJl"

BODY = "tdk_" + base62(0x8F3A5C1D0E7B294610FEDCBA98765432123456789ABCDEF00F1E2D3C4B5A6978, 43)
SECRET = BODY + checksum(BODY)

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
    assert recognise(SECRET) is CredentialKind.API_KEY
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


def test_a_known_secret_keeps_its_checksum() -> None:
    """The form is published: what was minted once must pass for ever."""
    check_form("tdk_" + "0" * 43 + "34XzlO")


def test_a_whole_secret_passes() -> None:
    """Its own checksum is all that the form asks for."""
    check_form(SECRET)


@pytest.mark.parametrize("position", range(4, SECRET_LENGTH))
def test_one_wrong_character_anywhere_is_noticed_without_a_store(position: int) -> None:
    """A mistyped secret fails by its checksum."""
    other = "a" if SECRET[position] != "a" else "b"
    with pytest.raises(GatewayError) as caught:
        check_form(SECRET[:position] + other + SECRET[position + 1 :])
    assert caught.value.code == "invalid_api_key"
    assert "checksum" in caught.value.message


def test_two_characters_swapped_are_noticed() -> None:
    """The commonest slip of the hand fails too."""
    assert SECRET[10] != SECRET[11]
    with pytest.raises(GatewayError, match="checksum"):
        check_form(SECRET[:10] + SECRET[11] + SECRET[10] + SECRET[12:])


@pytest.mark.parametrize("cut", ["tdk_", SECRET[:-1], SECRET + "x", SECRET[:20]])
def test_a_cut_or_lengthened_secret_is_told_its_length(cut: str) -> None:
    """The message says how long the secret is and how long it should be."""
    with pytest.raises(GatewayError) as caught:
        check_form(cut)
    assert caught.value.code == "invalid_api_key"
    assert str(len(cut)) in caught.value.message
    assert "53" in caught.value.message


@pytest.mark.parametrize("strange", ["é", "\ud800", "\x00", " ", "\u0661"])
def test_a_secret_of_the_right_length_with_foreign_characters_is_refused(strange: str) -> None:
    """Only 62 letters and digits count; a lone surrogate must not blow up either."""
    with pytest.raises(GatewayError) as caught:
        check_form(SECRET[:-1] + strange)
    assert caught.value.code == "invalid_api_key"
