"""A certified OpenID provider for tests, in a process of its own, and the browser of somebody who signs in there."""

from __future__ import annotations

import base64
import http.cookiejar
import json
import re
import socket
import subprocess
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from html import unescape
from pathlib import Path

from tokendance_cli.browser_login import sign_in
from tokendance_cli.contexts import Context
from tokendance_cli.openid import Issuer

SECRET = "a-secret-of-the-tests-that-is-long-enough"
AUDIENCE = "https://gateway.example.com"
_SCRIPT = Path(__file__).parent / "e2e" / "node" / "identity_provider.mjs"
_STOP_S = 10


@dataclass(frozen=True)
class IdentityProvider:
    """The provider, and what it issues."""

    issuer: str
    process: subprocess.Popen[bytes]

    def token(self, client: str, resource: str = AUDIENCE) -> str:
        """Return an access token of a client for itself."""
        form = {"grant_type": "client_credentials", "scope": "gateway", "resource": resource}
        request = urllib.request.Request(f"{self.issuer}/token", data=urllib.parse.urlencode(form).encode())
        request.add_header("Authorization", "Basic " + base64.b64encode(f"{client}:{SECRET}".encode()).decode())
        with urllib.request.urlopen(request, timeout=10) as answer:
            return str(json.load(answer)["access_token"])

    def token_of(self, who: str) -> str:
        """Return the access token of somebody who signs in by browser."""
        context = Context(
            "work",
            "127.0.0.1:1",
            issuer=self.issuer,
            client_id="tokendance-cli",
            audience=AUDIENCE,
            scope="openid gateway",
        )
        threads: list[threading.Thread] = []

        def show(url: str) -> None:
            threads.append(threading.Thread(target=Browser(who).sign_in, args=(url,)))
            threads[0].start()

        try:
            return sign_in(Issuer(context), show, browser=False, patience_s=10).access_token
        finally:
            for thread in threads:
                thread.join()

    def rotate(self) -> None:
        """Replace the key that signs; the old one is published no more."""
        assert self._order("rotate") == "done"

    def reads(self) -> int:
        """Return how often the keys were read so far."""
        return int(self._order("reads"))

    def entitle(self, subject: str, *groups: str) -> None:
        """Say what a subject's next token holds."""
        assert self._order(f"groups {subject} {','.join(groups)}") == "done"

    def _order(self, line: str) -> str:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{line}\n".encode())
        self.process.stdin.flush()
        return self.process.stdout.readline().decode().strip()


class Browser:
    """Somebody's browser: keeps cookies, follows redirects, and fills in forms."""

    def __init__(self, login: str) -> None:
        self._login = login
        cookies = urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar())
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), cookies)

    def sign_in(self, url: str) -> tuple[str, str]:
        """Open an address, sign in and agree to what is asked; return where that ended, and its page."""
        place, page = self._open(url)
        for _ in range(6):
            form = re.search(r"<form[^>]*action=\"([^\"]*)\"[^>]*>(.*?)</form>", page, re.DOTALL)
            if form is None:
                return place, page
            place, page = self._send(urllib.parse.urljoin(place, unescape(form[1])), self._filled(form[2]))
        raise AssertionError(f"the sign-in goes on and on: {page}")

    def _filled(self, form: str) -> dict[str, str]:
        fields = {}
        for tag in re.findall(r"<input[^>]*>", form):
            name = re.search(r"name=\"?([^\s\">]+)", tag)
            value = re.search(r"value=\"([^\"]*)\"", tag)
            if name is not None:
                fields[name[1]] = unescape(value[1]) if value is not None else ""
        known = {"login": self._login, "password": "any"}
        return fields | {name: value for name, value in known.items() if name in fields}

    def _open(self, url: str) -> tuple[str, str]:
        return self._ask(urllib.request.Request(url))

    def _send(self, url: str, fields: dict[str, str]) -> tuple[str, str]:
        return self._ask(urllib.request.Request(url, data=urllib.parse.urlencode(fields).encode()))

    def _ask(self, request: urllib.request.Request) -> tuple[str, str]:
        try:
            with self._opener.open(request, timeout=10) as answer:
                return str(answer.url), answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return str(error.url), error.read().decode()


@contextmanager
def running_identity_provider(folder: Path) -> Iterator[IdentityProvider]:
    """Run the provider with its log in `folder`. Raises where this machine has not what it needs: `make setup`."""
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        port = place.getsockname()[1]
    log = folder / "identity_provider.log"
    with log.open("wb") as err:
        process = subprocess.Popen(
            ["node", _SCRIPT, str(port)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=err
        )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n", log.read_text()
        yield IdentityProvider(f"http://127.0.0.1:{port}", process)
    finally:
        process.terminate()
        process.wait(_STOP_S)
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                stream.close()
