"""REST calls of a key's holder, by the standard library alone, so that they start at once.

Redirects are not followed: the key would go to whoever is named there.
"""

from __future__ import annotations

import json
import os
import socket
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from tokendance_cli.failures import FAILED, UNREACHABLE, USAGE, CommandError

DEFAULT_BASE_URL = "https://api.vectorcontrol.tech/v1"
# The gateway sends a sign of life every 15 seconds, also while it waits.
_SILENCE_S = 120
_LINE_BYTES = 8 * 1024 * 1024
_ERROR_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Answer:
    """A JSON answer and its request id."""

    document: Any
    request_id: str | None


@dataclass(frozen=True, slots=True)
class Holder:
    """A key's holder: where the gateway is, and the key."""

    base_url: str
    api_key: str = field(repr=False)

    def get(self, path: str) -> Answer:
        """Return the JSON at a path below the base URL; raises CommandError."""
        with self._open(path, None) as response:
            request_id = response.headers.get("x-request-id")
            try:
                return Answer(json.load(response), request_id)
            except ValueError as error:
                raise self._not_ours(response.status, request_id) from error

    @contextmanager
    def stream(self, path: str, body: dict[str, Any]) -> Iterator[tuple[Iterator[str], str | None]]:
        """Post JSON and give the data of the server-sent events as they come, and the request id."""
        with self._open(path, body) as response:
            request_id = response.headers.get("x-request-id")
            if response.headers.get_content_type() != "text/event-stream":
                raise self._not_ours(response.status, request_id)
            yield self._events(response), request_id

    def _events(self, response: HTTPResponse) -> Iterator[str]:
        data: list[str] = []
        with self._reaching():
            while raw := response.readline(_LINE_BYTES):
                line = raw.decode("utf-8", "replace").rstrip("\r\n")
                if line.startswith("data:"):
                    data.append(line[5:].removeprefix(" "))
                elif not line and data:
                    yield "\n".join(data)
                    data = []

    @contextmanager
    def _open(self, path: str, body: dict[str, Any] | None) -> Iterator[HTTPResponse]:
        request = urllib.request.Request(  # noqa: S310 - holder() lets only http and https through
            self.base_url + path,
            data=None if body is None else json.dumps(body).encode(),
            headers={
                "Authorization": f"Bearer {self.api_key}",
                "Content-Type": "application/json",
                "User-Agent": "tokendance-cli",
            },
        )
        opener = urllib.request.build_opener(_NoRedirects)
        try:
            with self._reaching():
                response = opener.open(request, timeout=_SILENCE_S)
        except urllib.error.HTTPError as error:
            with error:
                raise self._refused(error) from error
        with response:
            yield response

    @contextmanager
    def _reaching(self) -> Iterator[None]:
        """Turn what the network does wrong into one line. HTTPError is an answer and passes through."""
        try:
            yield
        except urllib.error.HTTPError:
            raise
        except (OSError, HTTPException) as error:
            cause = error.reason if isinstance(error, urllib.error.URLError) else error
            raise self._unreachable(cause) from error

    def _unreachable(self, cause: object) -> CommandError:
        if isinstance(cause, ssl.SSLCertVerificationError):
            why = f"its certificate is not trusted ({cause.verify_message})"
        elif isinstance(cause, TimeoutError):
            why = f"nothing was heard for {_SILENCE_S} seconds"
        elif isinstance(cause, socket.gaierror):
            why = "its name is not known"
        else:
            why = (cause.strerror if isinstance(cause, OSError) else None) or str(cause) or type(cause).__name__
        return CommandError(
            f"The gateway at {self.base_url} cannot be reached: {why}.",
            "Check TOKENDANCE_BASE_URL (or --base-url) and the network.",
            exit_code=UNREACHABLE,
        )

    def _refused(self, error: urllib.error.HTTPError) -> CommandError:
        request_id = error.headers.get("x-request-id")
        with self._reaching():
            body = error.read(_ERROR_BYTES)
        try:
            told = json.loads(body)["error"]
        except (ValueError, LookupError, TypeError):
            return self._not_ours(error.code, request_id)
        return refusal(told, error.headers.get("x-tokendance-error-code"), request_id)

    def _not_ours(self, status: int, request_id: str | None) -> CommandError:
        return CommandError(
            f"{self.base_url} answered with HTTP {status}, but not in the form of TokenDance Gateway.",
            "Check TOKENDANCE_BASE_URL (or --base-url); it ends in /v1. A proxy on the way may have answered.",
            request_id=request_id,
        )


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(  # noqa: PLR0917 - urllib's own signature
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> None:
        return None


def holder(base_url: str | None, key_file: Path | None) -> Holder:
    """Return the holder from flags and environment; raises CommandError where there is no key."""
    url = (base_url or os.environ.get("TOKENDANCE_BASE_URL") or DEFAULT_BASE_URL).strip().rstrip("/")
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise CommandError(
            f"{url!r} is no base URL.",
            f"It looks like {DEFAULT_BASE_URL}; check TOKENDANCE_BASE_URL or --base-url.",
            exit_code=USAGE,
        )
    if key_file is not None:
        try:
            key = key_file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise CommandError(f"The key file {key_file} cannot be read: {error}.", exit_code=USAGE) from error
    else:
        key = os.environ.get("TOKENDANCE_API_KEY", "")
    key = key.strip()
    if not key:
        raise CommandError(
            "There is no API key.",
            "Set TOKENDANCE_API_KEY to your TokenDance API key, or name a file that holds it with --key-file.",
            exit_code=USAGE,
        )
    if not key.isascii() or not key.isprintable() or " " in key:
        raise CommandError("The API key holds characters that no key has; copy it again.", exit_code=USAGE)
    return Holder(url, key)


def refusal(told: Any, stable_code: str | None, request_id: str | None) -> CommandError:
    """Return an error of the gateway as a command's: its code and message, and what to check first.

    `told` is the `error` object of the body; `stable_code` is the header's code, which a dialect never changes.
    """
    from tokendance.errors import reason_of_code, spec_of

    if not isinstance(told, dict):
        told = {"message": str(told)}
    code = stable_code or str(told.get("code") or told.get("type") or "error")
    reason = reason_of_code(code)
    hints = [] if reason is None else [f"Check first: {spec_of(reason).check_first}"]
    param = told.get("param")
    where = f" ({param})" if param else ""
    return CommandError(
        f"{code}: {told.get('message', '')}{where}",
        *hints,
        exit_code=FAILED,
        request_id=request_id or told.get("request_id"),
    )
