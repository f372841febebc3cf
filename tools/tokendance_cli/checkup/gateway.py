"""Whether a TokenDance Gateway answers at the base URL, asked without a key; and whether the clocks agree."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from http.client import HTTPException, HTTPResponse
from urllib.parse import urlsplit

from tokendance.errors import reason_of_code, spec_of
from tokendance_cli.announcement import is_local
from tokendance_cli.checkup.finding import Finding, State, Subject
from tokendance_cli.failures import UNREACHABLE, USAGE
from tokendance_cli.reach import explain, proxy_of
from tokendance_cli.rest import send

MAX_SKEW_S = 60
_BODY_BYTES = 64 * 1024
_CODE = "x-tokendance-error-code"
_ENDPOINTS = ("/chat/completions", "/completions", "/embeddings", "/models", "/responses", "/messages")


@dataclass(frozen=True, slots=True)
class Reached:
    """An answer without a key: its status and stable code, and how its clock stands to ours, in seconds."""

    status: int
    code: str
    request_id: str | None
    location: str
    skew_s: float | None
    duration_s: float

    @property
    def is_gateway(self) -> bool:
        """Tell whether a gateway of ours wrote the answer."""
        return bool(self.code) and (self.request_id or "").startswith("req_")


def examine_base_url(subject: Subject) -> Finding:
    """Tell what is wrong with the base URL itself. Never fails: the next check shows whether it leads anywhere."""
    url = subject.base_url
    parts = urlsplit(url)
    if parts.scheme == "http" and not is_local(url):
        return _warning(f"{url} is plain HTTP: the key and all prompts can be read on the way.", "Write https://.")
    proxy = proxy_of(url)
    if proxy and is_local(url):
        return _warning(
            f"Calls to {url}, which is this machine, go through the proxy {proxy}.",
            f"Name {parts.hostname} in NO_PROXY.",
        )
    if not parts.path.endswith("/v1"):
        return _warning(f"{url} does not end in /v1.", f"It probably is {parts.scheme}://{parts.netloc}/v1.")
    return Finding("base url", State.OK, f"{url}{f' by way of the proxy {proxy}' if proxy else ''}.")


def examine_gateway(subject: Subject) -> tuple[Finding, Reached | None]:
    """Ask for the models without a key, which a gateway refuses in its own way. Fails for everything else."""
    url = subject.base_url
    try:
        reached = _ask(f"{url}/models", subject.timeout_s)
    except (OSError, HTTPException) as error:
        trouble = explain(error, url, subject.timeout_s)
        return _failed(f"{url} cannot be reached: {trouble.why}.", *trouble.hints, exit_code=UNREACHABLE), None
    if reached.is_gateway and reached.code == "missing_api_key":
        took_ms = reached.duration_s * 1000
        told = f"A TokenDance Gateway answers ({took_ms:.0f} ms)."
        return Finding("gateway", State.OK, told, request_id=reached.request_id), reached
    if reached.is_gateway and reached.code != "not_found":
        told = f"A TokenDance Gateway answers, but cannot serve: {reached.code} (HTTP {reached.status})."
        return _failed(told, *_remedy(reached.code), request_id=reached.request_id), reached
    return _elsewhere(subject, reached), reached


def examine_clock(reached: Reached) -> Finding:
    """Compare our clock with the gateway's, as its Date header tells it to the second."""
    skew = reached.skew_s
    if skew is None:
        return Finding("clock", State.SKIPPED, "The answer has no Date header to compare with.")
    if abs(skew) <= MAX_SKEW_S:
        return Finding("clock", State.OK, "The clock of this machine agrees with the gateway's.")
    direction = "behind" if skew > 0 else "ahead of"
    return Finding(
        "clock",
        State.WARNING,
        f"The clock of this machine is {abs(skew):.0f} seconds {direction} the gateway's.",
        ("Set it by NTP: certificates, expiry times and resets are judged by it.",),
    )


def _ask(url: str, timeout_s: float) -> Reached:
    asked = time.time()
    with send(url, "", None, timeout_s=timeout_s) as response:
        answered = time.time()
        return Reached(
            status=response.status,
            code=response.headers.get(_CODE, ""),
            request_id=response.headers.get("x-request-id"),
            location=response.headers.get("location", ""),
            skew_s=_skew(response, (asked + answered) / 2),
            duration_s=max(0.0, answered - asked),
        )


def _skew(response: HTTPResponse, at: float) -> float | None:
    try:
        # The header has cut off its fraction: half a second on average.
        return parsedate_to_datetime(response.headers["date"]).timestamp() + 0.5 - at
    except (TypeError, ValueError, OverflowError):
        return None


def _elsewhere(subject: Subject, reached: Reached) -> Finding:
    """Find out where the gateway is, if it is not at the base URL."""
    url = subject.base_url
    origin = "{0.scheme}://{0.netloc}".format(urlsplit(url))
    endpoint = next((one for one in _ENDPOINTS if url.endswith(one)), "")
    for candidate in (url.removesuffix(endpoint), f"{url}/v1", f"{origin}/v1"):
        if candidate != url and _is_gateway(candidate, subject.timeout_s):
            return _failed(
                f"A TokenDance Gateway is there, but not at {url} (HTTP {reached.status}).",
                f"Set TOKENDANCE_BASE_URL (or --base-url) to {candidate}.",
                request_id=reached.request_id,
                exit_code=USAGE,
            )
    if reached.is_gateway and _is_internal(origin, subject.timeout_s):
        return _failed(
            f"{origin} is the internal listener of a gateway (metrics and health), which calls no model.",
            "Name the listener for callers: on one machine, port 8080 unless it was changed.",
            exit_code=USAGE,
        )
    if 300 <= reached.status < 400:
        target = urlsplit(reached.location)
        where = f" to {target.scheme}://{target.hostname or ''}" if target.scheme and target.hostname else ""
        return _failed(
            f"{url} redirects{where} (HTTP {reached.status}); the key is never sent after a redirect.",
            "Name the address where the gateway itself is.",
            exit_code=UNREACHABLE,
        )
    return _failed(
        f"What answers at {url} is not a TokenDance Gateway (HTTP {reached.status}); the key was not sent to it.",
        "Check host, port and path in TOKENDANCE_BASE_URL (or --base-url); a proxy on the way may have answered.",
        exit_code=UNREACHABLE,
    )


def _remedy(code: str) -> tuple[str, ...]:
    """Return what the error table says to a code; where a retry is of use, also that."""
    reason = reason_of_code(code)
    spec = None if reason is None else spec_of(reason)
    hints = () if spec is None else (f"Check first: {spec.check_first}",)
    return (*hints, *(("Try again in a minute.",) if spec is None or spec.retryable else ()))


def _is_gateway(url: str, timeout_s: float) -> bool:
    try:
        reached = _ask(f"{url}/models", timeout_s)
    except (OSError, HTTPException):
        return False
    return reached.is_gateway and reached.code == "missing_api_key"


def _is_internal(origin: str, timeout_s: float) -> bool:
    try:
        with send(f"{origin}/livez", "", None, timeout_s=timeout_s) as response:
            return bool(json.loads(response.read(_BODY_BYTES)) == {"status": "alive"})
    except (OSError, HTTPException, ValueError):
        return False


def _warning(told: str, *do: str) -> Finding:
    return Finding("base url", State.WARNING, told, do)


def _failed(told: str, *do: str, request_id: str | None = None, exit_code: int = UNREACHABLE) -> Finding:
    return Finding("gateway", State.FAILED, told, do, request_id, exit_code)
