"""REST calls of a key's holder, by the standard library alone, so that they start at once.

Redirects are not followed: the key would go to whoever is named there.
"""

from __future__ import annotations

import json
import os
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tokendance_cli.failures import FAILED, UNREACHABLE, USAGE, CommandError
from tokendance_cli.reach import explain

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
        with self._reaching():
            yield from events_of(response)

    @contextmanager
    def _open(self, path: str, body: dict[str, Any] | None) -> Iterator[HTTPResponse]:
        with self._reaching():
            response = send(self.base_url + path, self.api_key, body, timeout_s=_SILENCE_S)
        with response:
            if response.status >= 300:
                raise self._refused(response)
            yield response

    @contextmanager
    def _reaching(self) -> Iterator[None]:
        """Turn what the network does wrong into one line."""
        try:
            yield
        except (OSError, HTTPException) as error:
            trouble = explain(error, self.base_url, _SILENCE_S)
            raise CommandError(
                f"The gateway at {self.base_url} cannot be reached: {trouble.why}.",
                *trouble.hints,
                exit_code=UNREACHABLE,
            ) from error

    def _refused(self, response: HTTPResponse) -> CommandError:
        request_id = response.headers.get("x-request-id")
        with self._reaching():
            told = error_of(response)
        if told is None:
            return self._not_ours(response.status, request_id)
        return refusal(told, response.headers.get("x-tokendance-error-code"), request_id)

    def _not_ours(self, status: int, request_id: str | None) -> CommandError:
        return CommandError(
            f"{self.base_url} answered with HTTP {status}, but not in the form of TokenDance Gateway.",
            "Check TOKENDANCE_BASE_URL (or --base-url); it ends in /v1. A proxy on the way may have answered.",
            request_id=request_id,
        )


class _EveryAnswer(urllib.request.HTTPErrorProcessor):
    """Takes every status for an answer. No redirect is followed, because urllib makes them out of errors."""

    def http_response(self, request: urllib.request.Request, response: HTTPResponse) -> HTTPResponse:
        return response

    https_response = http_response


def send(url: str, api_key: str, body: dict[str, Any] | None, *, timeout_s: float) -> HTTPResponse:
    """Send one request and return the answer, whatever its status; the caller closes it.

    GET where there is no body, without a credential where `api_key` is empty. Raises OSError and HTTPException.
    """
    headers = {"Content-Type": "application/json", "User-Agent": "tokendance-cli"}
    if api_key:
        headers["Authorization"] = f"Bearer {api_key}"
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, headers)  # noqa: S310 - base_url_of lets only http and https through
    opener = urllib.request.build_opener(_EveryAnswer)
    response = opener.open(request, timeout=timeout_s)
    assert isinstance(response, HTTPResponse)
    return response


def events_of(response: HTTPResponse) -> Iterator[str]:
    """Yield the data of server-sent events as they come."""
    data: list[str] = []
    while raw := response.readline(_LINE_BYTES):
        line = raw.decode("utf-8", "replace").rstrip("\r\n")
        if line.startswith("data:"):
            data.append(line[5:].removeprefix(" "))
        elif not line and data:
            yield "\n".join(data)
            data = []


def error_of(response: HTTPResponse) -> Any:
    """Return the `error` object of an answer's body, or None where it has none."""
    try:
        return json.loads(response.read(_ERROR_BYTES))["error"]
    except (ValueError, LookupError, TypeError):
        return None


def base_url_of(given: str | None) -> str:
    """Return the base URL from flag, environment or default, without a slash at its end; raises CommandError."""
    url = (given or os.environ.get("TOKENDANCE_BASE_URL") or DEFAULT_BASE_URL).strip().rstrip("/")
    looks = f"It looks like {DEFAULT_BASE_URL}; check TOKENDANCE_BASE_URL or --base-url."
    try:
        parts = urlsplit(url)
        _ = parts.port
        (parts.hostname or "").encode("idna")
    except ValueError as error:
        raise CommandError("The base URL cannot be read.", looks, exit_code=USAGE) from error
    if "@" in parts.netloc or parts.query or parts.fragment:
        # Not shown: what stands in such places is often a secret.
        raise CommandError(
            "The base URL holds more than an address: a user, a query or a fragment.", looks, exit_code=USAGE
        )
    if parts.scheme not in ("http", "https") or not parts.hostname or not url.isprintable() or " " in url:
        raise CommandError(f"{url!r} is no base URL.", looks, exit_code=USAGE)
    return url


def api_key_of(key_file: Path | None) -> str:
    """Return the API key from its file or the environment as it stands there, perhaps empty; raises CommandError."""
    if key_file is None:
        return os.environ.get("TOKENDANCE_API_KEY", "")
    try:
        return key_file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(f"The key file {key_file} cannot be read: {error}.", exit_code=USAGE) from error


def holder(base_url: str | None, key_file: Path | None) -> Holder:
    """Return the holder from flags and environment; raises CommandError where there is no key."""
    url = base_url_of(base_url)
    key = api_key_of(key_file).strip()
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
        code=code,
    )
