"""An OpenID provider as small as can be, that answers whatever it is told to."""

from __future__ import annotations

import base64
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs

Form = dict[str, str]


class SmallIssuer:
    """Answers the endpoints of `documents` by path; a list is answered one after the other, the last one for ever."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, Form, dict[str, str]]] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self.discovery: dict[str, Any] = {
            "issuer": self.url,
            "authorization_endpoint": f"{self.url}/auth?tenant=1",
            "token_endpoint": f"{self.url}/token",
            "device_authorization_endpoint": f"{self.url}/device",
            "revocation_endpoint": f"{self.url}/revoke",
        }
        self.answers: dict[str, list[tuple[int, Any]]] = {}

    def tokens(self, **changes: Any) -> dict[str, Any]:
        """Return a good answer of the token endpoint, changed; None takes a part away."""
        good = {"access_token": "access", "token_type": "Bearer", "expires_in": 300, "refresh_token": "refresh"}
        return {name: value for name, value in (good | changes).items() if value is not None}

    def id_token(self, **changes: Any) -> str:
        """Return an ID token for the client `cli`, changed."""
        claims = {"iss": self.url, "aud": "cli", "sub": "ada"} | changes
        return f"x.{base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b'=').decode()}.x"

    def close(self) -> None:
        """End it."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _answer(self, path: str) -> tuple[int, Any]:
        if path == "/.well-known/openid-configuration":
            return 200, self.discovery
        answers = self.answers.get(path, [(404, {})])
        return answers.pop(0) if len(answers) > 1 else answers[0]

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                form = parse_qs(self.rfile.read(int(self.headers.get("content-length", 0))).decode())
                headers = {name.lower(): value for name, value in self.headers.items()}
                path = self.path.partition("?")[0]
                issuer.asked.append((path, {name: values[0] for name, values in form.items()}, headers))
                status, document = issuer._answer(path)
                body = document if isinstance(document, bytes) else json.dumps(document).encode()
                self.send_response(status)
                if status == 302:
                    self.send_header("Location", f"{issuer.url}/elsewhere")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def do_POST(self) -> None:
                self.do_GET()

            def log_message(self, *_: object) -> None:
                pass

        return Handler
