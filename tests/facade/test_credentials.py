"""Where a credential is read, and where it is refused."""

from __future__ import annotations

import pytest
from multidict import CIMultiDict

from tokendance.errors import GatewayError
from tokendance_facade.credentials import api_key_in, read_credential

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


def test_api_keys_are_recognised_on_the_internal_listener() -> None:
    """A scraper's own token is none."""
    assert api_key_in(CIMultiDict({"Authorization": f"Bearer {KEY}"}))
    assert api_key_in(CIMultiDict({"x-api-key": "anything"}))
    assert not api_key_in(CIMultiDict({"Authorization": "Bearer scrape"}))
