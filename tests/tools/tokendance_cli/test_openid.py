"""What a program takes from an identity provider, and what it does not."""

from __future__ import annotations

import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from tests.tools.tokendance_cli.small_issuer import SmallIssuer

from tokendance_cli.browser_login import sign_in
from tokendance_cli.contexts import Context
from tokendance_cli.failures import CommandError
from tokendance_cli.openid import Issuer, RefusedError, Tokens


@pytest.fixture
def small() -> Iterator[SmallIssuer]:
    """A provider that answers what it is told to."""
    one = SmallIssuer()
    yield one
    one.close()


def issuer_of(small: SmallIssuer, **changes: Any) -> Issuer:
    """Return the provider as a program sees it."""
    told = {"issuer": small.url, "client_id": "cli", "audience": "https://gateway", "scope": "openid gateway"}
    return Issuer(Context("work", "127.0.0.1:1", **(told | changes)))


def get(url: str) -> tuple[int, str]:
    """Return status and page of an address, as a browser would."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def by_browser(small: SmallIssuer, visit: Callable[[str, dict[str, str]], None], **changes: Any) -> Tokens:
    """Sign in; `visit` is the browser: it gets the address to answer to, and what was asked for."""
    threads = []

    def show(url: str) -> None:
        asked = {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}
        thread = threading.Thread(target=visit, args=(asked["redirect_uri"], asked))
        thread.start()
        threads.append(thread)

    try:
        return sign_in(issuer_of(small, **changes), show, browser=False, patience_s=5)
    finally:
        for thread in threads:
            thread.join()


def test_a_browser_brings_a_code_that_only_we_can_redeem(small: SmallIssuer) -> None:
    """With the verifier whose digest was sent, for the resource that was asked for."""
    asked_for: dict[str, str] = {}

    def visit(back: str, asked: dict[str, str]) -> None:
        asked_for.update(asked)
        small.answers["/token"] = [(200, small.tokens(id_token=small.id_token(nonce=asked["nonce"])))]
        status, page = get(f"{back}?code=the-code&state={asked['state']}")
        assert status == 200
        assert "Signed in" in page

    tokens = by_browser(small, visit)
    assert (tokens.access_token, tokens.refresh_token, tokens.id_claims["sub"]) == ("access", "refresh", "ada")
    assert asked_for["code_challenge_method"] == "S256"
    assert asked_for["tenant"] == "1"
    (path, form, _), *rest = [one for one in small.asked if one[0] == "/token"]
    assert not rest
    assert (path, form["code"], form["resource"]) == ("/token", "the-code", "https://gateway")
    assert form["redirect_uri"] == asked_for["redirect_uri"]
    assert form["code_verifier"] != asked_for["code_challenge"]
    assert "client_secret" not in form


def test_answers_to_nobodys_question_are_waited_past(small: SmallIssuer) -> None:
    """Wrong state, no state, two states, another path: none ends the wait, none is redeemed, none is echoed."""

    def visit(back: str, asked: dict[str, str]) -> None:
        small.answers["/token"] = [(200, small.tokens(id_token=small.id_token(nonce=asked["nonce"])))]
        state = asked["state"]
        for bad in (
            f"{back}?code=evil&state=x",
            f"{back}?code=evil",
            f"{back}?code=evil&state=x&state={state}",
            f"{back}x?code=evil&state={state}",
            f"{back}?code=<script>&state=%3Cscript%3E",
            f"{back}?state={'x' * 9000}",
        ):
            status, page = get(bad)
            assert status == 400
            assert "<script>" not in page
        assert get(f"{back}?code=good&state={state}")[0] == 200

    by_browser(small, visit)
    assert [form["code"] for path, form, _ in small.asked if path == "/token"] == ["good"]


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("error=access_denied&error_description=not+today", "access_denied (not today)"),
        ("nothing=1", "without a code"),
        ("code=x&iss=https://evil.example", "another identity provider"),
    ],
)
def test_a_sign_in_that_fails_says_why(small: SmallIssuer, query: str, words: str) -> None:
    """In the provider's own words, where it has any; nothing is redeemed."""
    with pytest.raises(CommandError) as caught:
        by_browser(small, lambda back, asked: _visit(f"{back}?{query}&state={asked['state']}"))
    assert words in caught.value.message
    assert not [path for path, _, _ in small.asked if path == "/token"]


def test_an_answer_must_name_its_issuer_where_it_always_does(small: SmallIssuer) -> None:
    """So that a code of one provider is never given to another (RFC 9207)."""
    small.discovery["authorization_response_iss_parameter_supported"] = True
    with pytest.raises(CommandError, match="another identity provider"):
        by_browser(small, lambda back, asked: _visit(f"{back}?code=x&state={asked['state']}"))


@pytest.mark.parametrize(
    ("claims", "words"),
    [
        ({"nonce": "another"}, "another sign-in"),
        ({}, "another sign-in"),
        ({"iss": "https://evil.example"}, "another provider's"),
        ({"aud": ["other"]}, "another provider's"),
        ({"aud": None}, "another provider's"),
    ],
)
def test_an_id_token_of_another_sign_in_is_not_taken(small: SmallIssuer, claims: dict[str, Any], words: str) -> None:
    """Replayed, of another issuer, for another program."""

    def visit(back: str, asked: dict[str, str]) -> None:
        good = {} if "nonce" in claims or not claims else {"nonce": asked["nonce"]}
        small.answers["/token"] = [(200, small.tokens(id_token=small.id_token(**good, **claims)))]
        get(f"{back}?code=x&state={asked['state']}")

    with pytest.raises(CommandError, match=words):
        by_browser(small, visit)


def test_nobody_comes(small: SmallIssuer) -> None:
    """The wait has an end, and the way without a browser is named."""
    with pytest.raises(CommandError, match=r"within 0\.1 seconds") as caught:
        sign_in(issuer_of(small), lambda url: None, browser=False, patience_s=0.1)
    assert "--device" in caught.value.hints[0]


DEVICE = {"device_code": "d", "user_code": "ABCD", "verification_uri": "https://id/device", "expires_in": 60}
PENDING, SLOWER = (400, {"error": "authorization_pending"}), (400, {"error": "slow_down"})


def test_a_device_asks_no_oftener_than_it_may(small: SmallIssuer) -> None:
    """And slower where it is told to."""
    small.answers = {"/device": [(200, DEVICE | {"interval": 2})], "/token": [PENDING, SLOWER, PENDING]}
    small.answers["/token"].append((200, small.tokens()))
    waits: list[float] = []
    issuer = issuer_of(small)
    grant = issuer.begin_device()
    assert grant.verification_uri_complete == "https://id/device"
    assert issuer.await_device(grant, waits.append).access_token == "access"
    assert waits == [2, 2, 7, 7]


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ((400, {"error": "access_denied"}), "access_denied"),
        ((400, {"error": "expired_token"}), "expired_token"),
        ((200, {"token_type": "Bearer"}), "makes no sense"),
        ((200, {"access_token": "x", "token_type": "mac"}), "makes no sense"),
        ((200, {"access_token": "x", "token_type": "bearer", "expires_in": "soon"}), "makes no sense"),
        ((200, b"<html>"), "makes no sense"),
        ((200, []), "makes no sense"),
        ((302, {}), "HTTP 302"),
        ((500, b""), "HTTP 500"),
    ],
)
def test_answers_that_bring_no_token_are_told(small: SmallIssuer, answer: tuple[int, Any], words: str) -> None:
    """A redirect is not followed: the code would go along."""
    small.answers = {"/device": [(200, DEVICE)], "/token": [answer]}
    issuer = issuer_of(small)
    with pytest.raises(CommandError, match=words):
        issuer.await_device(issuer.begin_device(), lambda seconds: None)
    assert "/elsewhere" not in [path for path, _, _ in small.asked]


def test_a_code_that_is_never_entered_ends(small: SmallIssuer) -> None:
    """By the provider's own time."""
    small.answers = {"/device": [(200, DEVICE | {"expires_in": 0})]}
    issuer = issuer_of(small)
    with pytest.raises(CommandError, match="in time"):
        issuer.await_device(issuer.begin_device(), lambda seconds: None)


def test_a_program_shows_its_secret_in_the_header_only(small: SmallIssuer) -> None:
    """Encoded as forms are, and without the scopes of people."""
    small.answers = {"/token": [(200, small.tokens(refresh_token=None))]}
    issuer = issuer_of(small, client_id="a b", scope="openid offline_access gateway")
    assert issuer.client_credentials("s:/ä").refresh_token == ""
    ((_, form, headers),) = [one for one in small.asked if one[0] == "/token"]
    assert headers["authorization"] == "Basic YStiOnMlM0ElMkYlQzMlQTQ="
    assert form == {"grant_type": "client_credentials", "scope": "gateway", "resource": "https://gateway"}


def test_a_session_that_is_over_is_known_by_its_code(small: SmallIssuer) -> None:
    """So that the caller is told to sign in again, and not that something broke."""
    small.answers = {"/token": [(400, {"error": "invalid_grant", "error_description": "gone"})]}
    with pytest.raises(RefusedError, match="gone") as caught:
        issuer_of(small).refresh("old")
    assert caught.value.error == "invalid_grant"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"issuer": "https://evil.example"}, "another issuer's"),
        ({"token_endpoint": "http://10.0.0.1/token"}, "not https://"),
        ({"token_endpoint": "file:///etc/passwd"}, "not https://"),
        ({"token_endpoint": 5}, "no token endpoint"),
        ({"token_endpoint": ""}, "no token endpoint"),
    ],
)
def test_discovery_leads_to_no_odd_place(small: SmallIssuer, change: dict[str, Any], words: str) -> None:
    """Tokens and secrets go to the issuer's own places only."""
    small.discovery |= change
    with pytest.raises(CommandError, match=words):
        issuer_of(small).refresh("x")
    assert [path for path, _, _ in small.asked] == ["/.well-known/openid-configuration"]


def test_revocation_is_offered_or_not(small: SmallIssuer) -> None:
    """Where it is not, the caller is told so."""
    small.answers = {"/revoke": [(200, b"")]}
    assert issuer_of(small).revoke("r")
    del small.discovery["revocation_endpoint"]
    assert not issuer_of(small).revoke("r")


def test_a_provider_that_is_not_there_is_told() -> None:
    """With what to check."""
    gone = Issuer(Context("work", "127.0.0.1:1", issuer="http://127.0.0.1:9", client_id="cli"))
    with pytest.raises(CommandError, match="cannot be reached") as caught:
        gone.refresh("x")
    assert caught.value.exit_code == 3


def test_no_token_is_shown_by_accident() -> None:
    """Not even in a traceback."""
    assert "secret" not in repr(Tokens("secret-access", 0.0, "secret-refresh"))


def _visit(url: str) -> None:
    get(url)
