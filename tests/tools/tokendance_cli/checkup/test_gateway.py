"""What a checkup says of the base URL, of what answers there, and of the clock."""

import socket
import time
from email.utils import formatdate

import pytest
from tests.tools.tokendance_cli.checkup.conftest import ScriptedGateway, answer, page, refused

from tokendance_cli.checkup.finding import State, Subject
from tokendance_cli.checkup.gateway import examine_base_url
from tokendance_cli.failures import UNREACHABLE, USAGE


def _base_url(url: str) -> tuple[State, str, tuple[str, ...]]:
    found = examine_base_url(Subject(url, "", "TOKENDANCE_API_KEY"))
    return found.state, found.told, found.do


def test_plain_http_to_another_machine_is_warned_of() -> None:
    """Everybody on the way could read the key."""
    state, told, do = _base_url("http://gateway.example/v1")
    assert (state, do) == (State.WARNING, ("Write https://.",))
    assert "plain HTTP" in told
    assert _base_url("https://gateway.example/v1")[0] is State.OK
    assert _base_url("http://127.0.0.1:8080/v1")[0] is State.OK


def test_a_proxy_is_named_without_its_user(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is part of the way; on the way to this machine it is a mistake."""
    monkeypatch.setenv("https_proxy", "http://user:proxy-secret@proxy.example:3128")
    state, told, _ = _base_url("https://gateway.example/v1")
    assert (state, "proxy proxy.example:3128" in told, "proxy-secret" in told) == (State.OK, True, False)
    monkeypatch.setenv("http_proxy", "http://proxy.example:3128")
    state, told, do = _base_url("http://127.0.0.1:8080/v1")
    assert (state, do) == (State.WARNING, ("Name 127.0.0.1 in NO_PROXY.",))


@pytest.mark.parametrize("path", ["", "/v1/chat/completions", "/v1/models"])
def test_a_wrong_path_is_told_with_the_right_one(scripted: ScriptedGateway, path: str) -> None:
    """The gateway is looked for at the places that people mean."""
    found = scripted.examine(base_url=scripted.origin + path)
    assert (found["base url"].state, found["gateway"].state) == (State.WARNING, State.FAILED)
    assert found["gateway"].exit_code == USAGE
    assert found["gateway"].do == (f"Set TOKENDANCE_BASE_URL (or --base-url) to {scripted.url}.",)
    assert scripted.keys_seen() == []


def test_the_internal_listener_is_recognised(scripted: ScriptedGateway) -> None:
    """It belongs to a gateway and calls no model."""
    scripted.script["open"] = refused("not_found", 404)
    scripted.script["livez"] = answer({"status": "alive"})
    found = scripted.examine()["gateway"]
    assert (found.state, found.exit_code) == (State.FAILED, USAGE)
    assert "internal listener" in found.told


@pytest.mark.parametrize("status", [200, 401, 403, 404, 502])
def test_somebody_else_is_not_taken_for_a_gateway(scripted: ScriptedGateway, status: int) -> None:
    """Whatever the status is, the form decides."""
    scripted.script["open"] = scripted.script["elsewhere"] = page(status)
    found = scripted.examine()["gateway"]
    assert (found.state, found.exit_code) == (State.FAILED, UNREACHABLE)
    assert f"not a TokenDance Gateway (HTTP {status})" in found.told


def test_a_redirect_is_told_and_not_followed(scripted: ScriptedGateway) -> None:
    """Only the host of where it leads is shown: the rest may hold a secret."""
    scripted.script["open"] = page(302, location="https://login.example/?state=secret-state")
    scripted.script["elsewhere"] = page(404)
    found = scripted.examine()["gateway"]
    assert "redirects to https://login.example (HTTP 302)" in found.told
    assert "secret-state" not in repr(found)


def test_a_gateway_that_cannot_serve_is_told_with_its_code(scripted: ScriptedGateway) -> None:
    """It is a gateway all the same, and has a request id."""
    scripted.script["open"] = refused("service_stopping", 503)
    found = scripted.examine()
    assert "service_stopping (HTTP 503)" in found["gateway"].told
    assert found["gateway"].do == ("Check first: Retry at once: another node answers.", "Try again in a minute.")
    assert found["gateway"].request_id
    assert (found["clock"].state, found["key"].state) == (State.OK, State.SKIPPED)


def test_a_gateway_that_only_its_operator_can_mend_is_not_to_be_tried_again(scripted: ScriptedGateway) -> None:
    """The advice is that of the error table."""
    scripted.script["open"] = refused("gateway_misconfigured", 500)
    (hint,) = scripted.examine()["gateway"].do
    assert hint.startswith("Check first: Do not retry; tell the operator of the gateway")


def test_nothing_listens(scripted: ScriptedGateway) -> None:
    """A refused connection is exit code 3."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        found = scripted.examine(base_url=f"http://127.0.0.1:{free.getsockname()[1]}/v1")["gateway"]
    assert (found.state, found.exit_code) == (State.FAILED, UNREACHABLE)
    assert "connection refused" in found.told


@pytest.mark.parametrize(("skew_s", "words"), [(-3600, "ahead of"), (3600, "behind")])
def test_a_clock_that_is_wrong_is_warned_of(scripted: ScriptedGateway, skew_s: int, words: str) -> None:
    """By how much, and in which direction."""
    date = formatdate(time.time() + skew_s, usegmt=True)
    scripted.script["open"] = answer({"error": {}}, 401, x_tokendance_error_code="missing_api_key", date=date)
    clock = scripted.examine()["clock"]
    assert clock.state is State.WARNING
    assert words in clock.told
    assert any(f"{seconds} seconds" in clock.told for seconds in range(3595, 3606))


@pytest.mark.parametrize("date", [None, "yesterday"])
def test_no_date_no_judgement(scripted: ScriptedGateway, date: str | None) -> None:
    """A proxy may have taken it away."""
    scripted.script["open"] = answer({"error": {}}, 401, x_tokendance_error_code="missing_api_key", date=date)
    assert scripted.examine()["clock"].state is State.SKIPPED
