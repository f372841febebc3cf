"""What a checkup says of each kind of credential that people put where the API key belongs."""

import pytest
from tests.tools.tokendance_cli.checkup.conftest import KEY

from tokendance_cli.checkup.credential import examine_credential
from tokendance_cli.checkup.finding import State, Subject
from tokendance_cli.failures import USAGE

JWT = "eyJhbGciOiJSUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.c2lnbmF0dXJl"


def _subject(credential: str) -> Subject:
    return Subject("http://127.0.0.1:1/v1", credential, "TOKENDANCE_API_KEY")


@pytest.mark.parametrize(
    ("credential", "words"),
    [
        ("", "not set or empty"),
        ("  \n", "not set or empty"),
        (f'"{KEY}"', "quotation marks"),
        (f"Bearer {KEY}", "the word Bearer"),
        (JWT, "an ID token (a JWT)"),
        ("hub_session_0123456789", "an AgentHub session"),
        ("sk-ant-api03-abcdefghijklmnop", "a provider's key, by its form one of Anthropic"),
        ("sk-proj-abcdefghijklmnopqrstuvwxyz", "a provider's key, by its form one of OpenAI"),
        ("AIzaSyD-0123456789abcdefghijklmnopqrstu", "a provider's key, by its form one of Google"),
        ("$TOKENDANCE_API_KEY", "a placeholder"),
        ("hunter2", "no TokenDance API key"),
        (KEY[:-1], "52 characters instead of 53"),
        (KEY[:20] + ("a" if KEY[20] != "a" else "b") + KEY[21:], "its checksum does not hold"),
        (KEY[:30] + "é" + KEY[31:], "its checksum does not hold"),
    ],
)
def test_each_kind_is_named_and_never_shown(credential: str, words: str) -> None:
    """The sentence names what it is, and the next one what to do; the credential stands in neither."""
    found = examine_credential(_subject(credential))
    assert (found.state, found.exit_code) == (State.FAILED, USAGE)
    assert words in found.told
    assert found.do
    secret = credential.strip().strip('"').removeprefix("Bearer ")
    if secret and secret != "$TOKENDANCE_API_KEY":
        assert secret not in f"{found.told} {found.do} {_subject(credential)!r}"


def test_a_provider_key_is_to_be_rotated() -> None:
    """It has left its safe place."""
    assert any("Rotate" in hint for hint in examine_credential(_subject("sk-x")).do)


@pytest.mark.parametrize(("credential", "state"), [(KEY, State.OK), (f"{KEY}\n", State.OK), (f" {KEY}", State.WARNING)])
def test_a_whole_key_passes(credential: str, state: State) -> None:
    """The newline at the end of a file is nobody's mistake; other white space is sent along by some programs."""
    assert examine_credential(_subject(credential)).state is state
