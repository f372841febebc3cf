"""Where a credential is read, and where it is refused."""

from __future__ import annotations

import pytest
from multidict import CIMultiDict

from tokendance.errors import GatewayError
from tokendance_facade.credentials import find_credential, read_credential, refuse_keys

KEY = "tdk_abc"


@pytest.mark.parametrize(
    "headers",
    [
        [("Authorization", f"Bearer {KEY}")],
        [("authorization", f"bearer   {KEY} ")],
        [("x-api-key", KEY)],
        [("api-key", KEY)],
        [("Authorization", f"Bearer {KEY}"), ("x-api-key", KEY), ("api-key", KEY)],
    ],
)
def test_three_headers_may_carry_it(headers: list[tuple[str, str]]) -> None:
    """Any of them, and the same in several."""
    assert read_credential(CIMultiDict(headers), "") == KEY


@pytest.mark.parametrize(
    ("headers", "query", "code"),
    [
        ([], "", "missing_api_key"),
        ([("Authorization", "")], "", "missing_api_key"),
        ([("Authorization", "Bearer ")], "", "missing_api_key"),
        ([("Authorization", f"Basic {KEY}")], "", "invalid_api_key"),
        ([("Authorization", KEY)], "", "invalid_api_key"),
        ([("Authorization", f"Bearer {'x' * 5000}")], "", "invalid_api_key"),
        ([("Authorization", "Bearer tdk_é")], "", "invalid_api_key"),
        ([("Authorization", "Bearer a b")], "", "invalid_api_key"),
        ([("Authorization", "Bearer a\tb")], "", "invalid_api_key"),
        ([("Authorization", f"Bearer {KEY}")] * 2, "", "credentials_conflict"),
        ([("Authorization", f"Bearer {KEY}"), ("x-api-key", "tdk_other")], "", "credentials_conflict"),
        ([("x-api-key", KEY), ("api-key", "tdk_other")], "", "credentials_conflict"),
        ([("Authorization", f"Bearer {KEY}")], "key=abc", "credential_misplaced"),
        ([], f"api_key={KEY}", "credential_misplaced"),
        ([], f"a=1&Access_Token={KEY}", "credential_misplaced"),
        ([], "other=%74dk_abc", "credential_misplaced"),
        ([("Cookie", f"a=b; session={KEY}")], "", "credential_misplaced"),
    ],
)
def test_everything_else_is_refused(headers: list[tuple[str, str]], query: str, code: str) -> None:
    """Each with the error that says what is wrong with it, and without repeating it."""
    with pytest.raises(GatewayError) as caught:
        read_credential(CIMultiDict(headers), query)
    assert caught.value.code == code
    assert "abc" not in caught.value.message


def test_a_query_and_a_cookie_without_credential_pass() -> None:
    """`api-version` and a browser's own cookies are nobody's key."""
    headers = CIMultiDict([("api-key", KEY), ("Cookie", "theme=dark")])
    assert read_credential(headers, "api-version=2024-10-21") == KEY


OTHERS = ("sk-ant-api03-0123456789", "AIzaSy0123456789abcdef", "gsk_0123456789abcdefgh", "eyJh.eyJh.x")


@pytest.mark.parametrize("value", OTHERS)
def test_other_peoples_credentials_are_misplaced_too(value: str) -> None:
    """Whatever the name of the parameter; in a cookie a token may be a session of somebody else's."""
    for check in (read_credential, refuse_keys):
        with pytest.raises(GatewayError) as caught:
            check(CIMultiDict([("Authorization", f"Bearer {KEY}")]), f"q={value}")
        assert caught.value.code == "credential_misplaced"
        assert value not in caught.value.message
    if not value.startswith("ey"):
        with pytest.raises(GatewayError) as caught:
            find_credential(CIMultiDict([("Cookie", f'a=1; b="{value}"')]), "")
        assert caught.value.code == "credential_misplaced"


@pytest.mark.parametrize("query", ["query=sk-", "query=hf_team", "model=r8_x", "after=eyJ"])
def test_words_that_only_begin_like_a_key_pass(query: str) -> None:
    """People look for names."""
    assert read_credential(CIMultiDict([("x-api-key", KEY)]), query) == KEY


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ([("Authorization", f"Bearer {KEY}")], "api_key_not_accepted"),
        ([("Authorization", KEY)], "api_key_not_accepted"),
        ([("x-api-key", "anything")], "api_key_not_accepted"),
        ([("api-key", KEY)], "api_key_not_accepted"),
        ([("Authorization", "Bearer sk-0123")], "provider_key_not_accepted"),
        ([("x-api-key", "AIza0123")], "provider_key_not_accepted"),
        ([("Authorization", "Bearer hub_0123")], "hub_session_not_accepted"),
        ([("Cookie", f"session={KEY}")], "credential_misplaced"),
    ],
)
def test_keys_have_no_meaning_where_people_come(headers: list[tuple[str, str]], code: str) -> None:
    """Each is told what it looks like, and what to send instead."""
    with pytest.raises(GatewayError) as caught:
        refuse_keys(CIMultiDict(headers), "")
    assert caught.value.code == code
    assert code == "credential_misplaced" or "an access token of TokenDance ID" in caught.value.message
    assert "0123" not in caught.value.message


@pytest.mark.parametrize("value", ["Bearer scrape", "Bearer eyJh.eyJh.x", "Basic c2NyYXBlOng=", "", "Bearer"])
def test_tokens_and_a_scrapers_own_pass(value: str) -> None:
    """Whether they are good is not decided by their form."""
    refuse_keys(CIMultiDict([("Authorization", value)]), "page_size=5")


def test_a_token_of_a_person_may_be_long() -> None:
    """Groups take room; a key never has as many characters."""
    token = f"eyJ{'a' * 8000}.b.c"
    headers = CIMultiDict([("Authorization", f"Bearer {token}")])
    assert find_credential(headers, "", people=True) == token
    with pytest.raises(GatewayError, match="TokenDance API key"):
        read_credential(headers, "")
    for bad in (f"Bearer eyJ{'a' * 9000}.b.c", "Basic x", "Bearer a b"):
        with pytest.raises(GatewayError, match="an access token of TokenDance ID") as caught:
            find_credential(CIMultiDict([("Authorization", bad)]), "", people=True)
        assert caught.value.code == "invalid_id_token"
