"""The ways into the console that must not lead there: used links, foreign hosts and forms, made-up answers."""

from __future__ import annotations

import http.client
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from html import unescape
from urllib.parse import urlencode, urlsplit

import pytest
from tests.e2e.nodes import TOKENDANCE, Node, clean_environment, running
from tests.e2e.upstream import Upstream

from tokendance_facade.console.pages import all_pages


@pytest.fixture(scope="module")
def node(upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A node with the development issuer."""
    with running("one", tmp_path_factory.mktemp("doors"), upstream.base_url, ["sim"]) as node:
        yield node


@dataclass
class Answer:
    """An answer, read whole."""

    status: int
    headers: http.client.HTTPMessage
    text: str


@dataclass
class Window:
    """A browser that does what it is told, and nothing by itself but keep cookies."""

    origin: str
    cookies: dict[str, str] = field(default_factory=dict)

    def ask(self, path: str, form: dict[str, str] | None = None, **headers: str) -> Answer:
        """Send a request, with a form from the console's own page unless `Origin` says otherwise."""
        place = urlsplit(self.origin)
        connection = http.client.HTTPConnection(place.hostname or "", place.port, timeout=10)
        told = {"Cookie": "; ".join(f"{name}={value}" for name, value in self.cookies.items())} if self.cookies else {}
        body = None
        if form is not None:
            told |= {"Origin": self.origin, "Content-Type": "application/x-www-form-urlencoded"}
            body = urlencode(form)
        told |= {name.replace("_", "-"): value for name, value in headers.items()}
        told = {name: value for name, value in told.items() if value}
        connection.request("GET" if form is None else "POST", path, body, told)
        found = connection.getresponse()
        answer = Answer(found.status, found.headers, found.read().decode())
        connection.close()
        for cookie in answer.headers.get_all("set-cookie") or ():
            name, _, value = cookie.partition(";")[0].partition("=")
            if "Max-Age=0" in cookie:
                self.cookies.pop(name, None)
            else:
                self.cookies[name] = value
        return answer


def link_of(node: Node, *arguments: str) -> str:
    """Print a sign-in link as the node's owner does; return its path."""
    command = [str(TOKENDANCE), "--data-dir", str(node.data_dir), "console", "--url", node.internal[0], *arguments]
    done = subprocess.run(command, env=clean_environment(), capture_output=True, text=True, timeout=20, check=True)
    return str(urlsplit(done.stdout.strip()).path)


def signed_in(node: Node, *arguments: str) -> Window:
    """Return the window of somebody who followed a link."""
    window = Window(node.internal[0])
    path = link_of(node, *arguments)
    assert window.ask(path).status == 200
    answer = window.ask("/console/link", {"link": path.rpartition("/")[2]})
    assert (answer.status, answer.headers["location"]) == (303, "/console")
    return window


def test_a_link_signs_in_once(node: Node) -> None:
    """Looking at it does not spend it, following it does; it stands in the words of the node's start, too."""
    path = link_of(node)
    token = path.rpartition("/")[2]
    window = Window(node.internal[0])
    for _ in range(2):
        assert "once" in window.ask(path).text
    answer = window.ask("/console/link", {"link": token})
    (cookie,) = answer.headers.get_all("set-cookie") or [""]
    assert cookie.endswith("; Path=/; HttpOnly; SameSite=Lax")
    assert window.ask("/console/organizations").status == 200
    again = Window(node.internal[0]).ask("/console/link", {"link": token})
    assert (again.status, again.headers["x-tokendance-error-code"]) == (401, "invalid_id_token")
    assert "used already" in again.text
    started = re.search(r"http://\S+/console/link/\S+", node.text)
    assert started is not None
    assert Window(node.internal[0]).ask("/console/link", {"link": started[0].rpartition("/")[2]}).status == 303


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"Origin": "http://evil.example"}, "permission_denied"),
        ({"Origin": ""}, "permission_denied"),
        ({"Origin": "null"}, "permission_denied"),
        ({"Sec_Fetch_Site": "cross-site"}, "permission_denied"),
        ({"X_Forwarded_For": "192.0.2.1"}, "invalid_id_token"),
        ({"Via": "1.1 proxy"}, "invalid_id_token"),
    ],
    ids=str,
)
def test_a_link_is_followed_here_alone(node: Node, headers: dict[str, str], code: str) -> None:
    """Neither from another site, so that nobody is signed in as somebody else, nor through a proxy."""
    window = Window(node.internal[0])
    answer = window.ask("/console/link", {"link": link_of(node).rpartition("/")[2]}, **headers)
    assert answer.headers["x-tokendance-error-code"] == code
    assert window.cookies == {}


def test_a_link_that_is_none_opens_nothing(node: Node) -> None:
    """Made up, cut or changed."""
    good = link_of(node).rpartition("/")[2]
    text, _, signature = good.partition(".")
    for bad in (f"{text}x.{signature}", f"{text}.{signature[:-4]}", f"{'A' * 60}.{signature}", good + "." + text):
        answer = Window(node.internal[0]).ask("/console/link", {"link": bad})
        assert answer.headers["x-tokendance-error-code"] == "invalid_id_token", bad


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example:80", "127.0.0.1:1", "localhost", ""])
def test_another_host_finds_no_console(node: Node, host: str) -> None:
    """A name of a stranger's that leads to this address gets neither page nor session."""
    answer = Window(node.internal[0]).ask("/console", None, Host=host or "x.invalid")
    assert (answer.status, answer.headers["x-tokendance-error-code"]) == (400, "invalid_request")


@pytest.mark.parametrize(
    "path",
    ["//console", "/console;a", "/Console", "/console/../metrics", "/console%2fkeys", "/console/keys/", "/console/x"],
)
def test_what_is_no_page_is_none(node: Node, path: str) -> None:
    """The path as it was sent decides, and other spellings of one are other paths."""
    answer = signed_in(node).ask(path)
    assert answer.status == 404


@pytest.mark.parametrize("state", ["", "x", "A" * 43])
def test_an_answer_that_nobody_asked_for_signs_nobody_in(node: Node, state: str) -> None:
    """Not even with a cookie of the same value that another site could not have set."""
    window = Window(node.internal[0])
    answer = window.ask(f"/console/callback?code=c&state={state}")
    assert (answer.status, answer.headers["x-tokendance-error-code"]) == (403, "permission_denied")
    assert window.cookies == {}


def test_a_session_does_not_come_with_a_cookie_of_somebodys_choice(node: Node) -> None:
    """The cookie that was there before a sign-in opens nothing afterwards."""
    port = urlsplit(node.internal[0]).port
    window = Window(node.internal[0], {f"tokendance-{port}-session": "F" * 43})
    window.ask("/console/link", {"link": link_of(node).rpartition("/")[2]})
    assert window.cookies[f"tokendance-{port}-session"] != "F" * 43
    old = Window(node.internal[0], {f"tokendance-{port}-session": "F" * 43}).ask("/console/organizations")
    assert (old.status, old.headers["location"]) == (303, "/console/sign-in?next=%2Fconsole%2Forganizations")


def test_forms_need_their_proof(node: Node) -> None:
    """Of this session and this path; without it nothing is done."""
    window, other = signed_in(node), signed_in(node)
    path = "/console/organizations/new"
    proof = re.search(r'name="csrf" value="([^"]+)"', window.ask(path).text)
    assert proof is not None
    wanted = {"display_name": "Made by a forger"}
    for bad in ({}, {"csrf": ""}, {"csrf": "x" * 43}):
        assert window.ask(path, wanted | bad).status == 403
    assert other.ask(path, wanted | {"csrf": proof[1]}).status == 403
    assert window.ask("/console/me", {"theme": "2", "csrf": proof[1]}).status == 403
    good = wanted | {"csrf": proof[1]}
    assert window.ask(path, good, Origin="http://evil.example").status == 403
    assert "Made by a forger" not in unescape(window.ask("/console/organizations").text)
    assert window.ask(path, good).status == 303


def test_no_public_route_makes_or_shows_a_key(node: Node) -> None:
    """Every page of the console is asked for where callers call: none is there, with any method."""
    origin = node.origin
    for page in all_pages():
        path = page.path.replace("{organization}", f"org_{'0' * 26}").replace("{id}", f"key_{'0' * 26}")
        for form in (None, {"a": "b"}):
            assert Window(origin).ask(path, form).status == 404, path
    for path in ("/admin/v1/organizations/-/keys", "/console/link/x", "/console/sign-in", "/v1/keys", "/keys/new"):
        assert Window(origin).ask(path).status in (404, 405), path
    pages = [Window(origin).ask(path).text for path in ("/", "/keys", "/models", "/limits", "/status")]
    assert not any(re.search(r"tdk_[0-9A-Za-z]{49}", page) for page in pages)
    assert not any('method="post"' in page for page in pages)


def test_pages_say_who_may_see_them() -> None:
    """Each has kinds of people, and no two are at one path."""
    pages = all_pages()
    assert all(page.kinds for page in pages)
    assert len({page.path for page in pages}) == len(pages)
