"""A sign-in by browser: the provider sends it back to a port of this machine that listens for this one answer."""

from __future__ import annotations

import hmac
import html
import time
import webbrowser
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer
from urllib.parse import parse_qs, urlsplit

from tokendance_cli.failures import CommandError
from tokendance_cli.openid import Issuer, Tokens, new_secret

_PATH = "/callback"
_LONGEST_LINE = 8192
_PAGE = "<!doctype html><meta charset=utf-8><title>TokenDance Gateway</title><p>{}</p>"


def sign_in(issuer: Issuer, show: Callable[[str], None], *, browser: bool, patience_s: float) -> Tokens:
    """Return the tokens of the person at the browser; `show` is told where to go. Raises CommandError."""
    state, nonce, verifier = new_secret(), new_secret(), new_secret()
    with _Waiting(state) as waiting:
        url = issuer.authorization_url(waiting.redirect_uri, state=state, nonce=nonce, verifier=verifier)
        show(url)
        if browser:
            webbrowser.open(url)
        answer = waiting.answer(patience_s)
        issuer.check_answerer(answer.get("iss"))
        if "error" in answer:
            why = answer.get("error_description", "")
            raise CommandError(f"The sign-in failed: {answer['error']}{f' ({why})' if why else ''}.")
        code = answer.get("code", "")
        if not code:
            raise CommandError("The sign-in was answered without a code; sign in again.")
        return issuer.redeem(code, waiting.redirect_uri, nonce=nonce, verifier=verifier)


class _Waiting(HTTPServer):
    """Waits on loopback for the one answer that carries our state; all else is refused and waited on."""

    def __init__(self, state: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.state = state
        self.found: dict[str, str] | None = None
        self.redirect_uri = f"http://127.0.0.1:{self.server_port}{_PATH}"

    def answer(self, patience_s: float) -> dict[str, str]:
        """Return the parameters of the answer; raises CommandError where none comes in time."""
        until = time.monotonic() + patience_s
        while self.found is None:
            self.timeout = until - time.monotonic()
            if self.timeout <= 0:
                raise CommandError(
                    f"Nobody signed in within {patience_s:g} seconds.",
                    "Begin anew, or sign in on another device with `tokendance login --device`.",
                )
            self.handle_request()
        return self.found


class _Handler(BaseHTTPRequestHandler):
    server: _Waiting
    timeout = 5

    def do_GET(self) -> None:
        """Take the answer, if it is one to our own question."""
        parts = urlsplit(self.path)
        query = parse_qs(parts.query, max_num_fields=20) if len(self.path) <= _LONGEST_LINE else {}
        single = {name: values[0] for name, values in query.items() if len(values) == 1}
        # A page of somebody else's may send a browser here: only who was sent by us knows the state.
        ours = hmac.compare_digest(single.get("state", "").encode(), self.server.state.encode())
        if parts.path != _PATH or not ours:
            self._say(400, "This is no answer to a sign-in that was begun here.")
            return
        self.server.found = single
        failed = "error" in single
        self._say(
            200, "The sign-in failed; the terminal tells why." if failed else "Signed in. Go back to the terminal."
        )

    def _say(self, status: int, sentence: str) -> None:
        body = _PAGE.format(html.escape(sentence)).encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Security-Policy", "default-src 'none'")
        self.send_header("Referrer-Policy", "no-referrer")
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: the line would hold the code."""
