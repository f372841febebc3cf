"""What forms hold, and the proof that they are ours."""

from __future__ import annotations

import pytest

from tokendance.errors import GatewayError
from tokendance_facade.console.cookies import Cookies, read_cookies
from tokendance_facade.console.forms import check_csrf, csrf_token, read_query
from tokendance_facade.console.sign_in import own_path

KEY, OTHER = bytes(32), bytes(range(32))


def test_a_proof_is_of_one_session_and_one_path() -> None:
    """Nothing else passes for it."""
    token = csrf_token(KEY, "/console/me")
    check_csrf(KEY, "/console/me", read_query(f"csrf={token}"))
    for key, path, query in (
        (OTHER, "/console/me", f"csrf={token}"),
        (KEY, "/console/you", f"csrf={token}"),
        (KEY, "/console/me", ""),
        (KEY, "/console/me", "csrf="),
    ):
        with pytest.raises(GatewayError) as caught:
            check_csrf(key, path, read_query(query))
        assert caught.value.code == "permission_denied"


def test_fields_are_read_as_people_write_them() -> None:
    """Spaces at the ends go, several values stay, and lines and commas part lists alike."""
    values = read_query("a=+x+&b=1&b=2&c=one%0Atwo,+three&d=")
    assert values.get("a") == "x"
    assert values.all("b") == ["1", "2"]
    assert values.lines("c") == ["one", "two", "three"]
    assert not values.has("d")
    assert values.get("e", "none") == "none"


@pytest.mark.parametrize("query", ["a=%ff", "&".join(f"a{number}=1" for number in range(501))], ids=["bytes", "many"])
def test_what_cannot_be_read_is_refused(query: str) -> None:
    """With an error, and never half."""
    with pytest.raises(GatewayError) as caught:
        read_query(query)
    assert caught.value.code == "invalid_request"


@pytest.mark.parametrize(
    "path",
    [
        *("", "/", "//evil.example", "/\\evil.example", "https://evil.example", "/console.evil.example", "/consolex"),
        *("/console\r\nSet-Cookie: a=b", "/console#x", "javascript:alert(1)", "/console/" + "x" * 2048, "/metrics"),
    ],
)
def test_a_sign_in_leads_back_into_the_console_only(path: str) -> None:
    """Whatever stands in `next`."""
    assert own_path(path) == "/console"


@pytest.mark.parametrize("path", ["/console", "/console/org_1/usage?by=key&days=7", "/console/lookup?id=req_1"])
def test_pages_of_the_console_are_led_back_to(path: str) -> None:
    """With their filters."""
    assert own_path(path) == path


def test_cookies_over_tls_belong_to_the_host_alone() -> None:
    """By the prefix that browsers enforce; on plain loopback the name tells ports apart."""
    secure, plain = Cookies.at("https://console.example"), Cookies.at("http://127.0.0.1:8081")
    name, value = secure.open_session("c")
    assert (name, value) == ("set-cookie", "__Host-tokendance-session=c; Path=/; HttpOnly; SameSite=Lax; Secure")
    assert plain.open_session("c")[1] == "tokendance-8081-session=c; Path=/; HttpOnly; SameSite=Lax"
    assert plain.session != Cookies.at("http://127.0.0.1:8082").session
    assert secure.login("a" * 43) != secure.login("b" * 43)


def test_a_cookie_that_comes_twice_counts_for_nothing() -> None:
    """One of the two is somebody else's, and nobody can tell which."""
    assert read_cookies({"Cookie": "a=1; b=2; a=3; c"}) == {"b": "2"}
    assert read_cookies({}) == {}
