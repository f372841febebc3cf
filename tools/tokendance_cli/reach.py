"""Why an address cannot be reached, told to the person who named it: names, ports, certificates, proxies, silence."""

from __future__ import annotations

import errno
import socket
import ssl
import urllib.error
import urllib.request
from dataclasses import dataclass
from http.client import BadStatusLine, HTTPException, RemoteDisconnected
from urllib.parse import urlsplit

_CHECK_URL = "Check TOKENDANCE_BASE_URL (or --base-url) and the network."
_TLS_ON_PLAIN = frozenset({"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG", "RECORD_LAYER_FAILURE"})


@dataclass(frozen=True, slots=True)
class Trouble:
    """What is wrong, as the end of a sentence without its full stop, and what to do about it."""

    why: str
    hints: tuple[str, ...]


def explain(error: Exception, url: str, silence_s: float) -> Trouble:
    """Return why a request to `url` was not answered within `silence_s` seconds. Takes OSError and HTTPException."""
    cause = error.reason if isinstance(error, urllib.error.URLError) else error
    trouble = _explain(cause, url, silence_s)
    proxy = proxy_of(url)
    if not proxy:
        return trouble
    host = urlsplit(url).hostname
    hint = (
        f"The environment sends this call through the proxy {proxy}: check HTTP_PROXY, HTTPS_PROXY and ALL_PROXY, "
        f"or name {host} in NO_PROXY."
    )
    return Trouble(f"{trouble.why}, by way of the proxy {proxy}", (hint, *trouble.hints))


def proxy_of(url: str) -> str:
    """Return the proxy that the environment names for a URL, as host:port without its user; empty for none."""
    parts = urlsplit(url)
    proxies = urllib.request.getproxies()
    found = proxies.get(parts.scheme) or proxies.get("all") or ""
    if not found or urllib.request.proxy_bypass(parts.hostname or ""):
        return ""
    return urlsplit(found if "//" in found else f"//{found}").netloc.rpartition("@")[2]


def _explain(cause: object, url: str, silence_s: float) -> Trouble:
    match cause:
        case ssl.SSLCertVerificationError():
            return _distrusted(cause)
        case ssl.SSLError() if cause.reason in _TLS_ON_PLAIN:
            return Trouble("there is no TLS on this port", (f"Perhaps it is plain: http://{urlsplit(url).netloc}/v1",))
        case ssl.SSLError():
            return Trouble(f"TLS fails ({cause.reason or 'no reason given'})", (_CHECK_URL,))
        case TimeoutError():
            return Trouble(
                f"nothing was heard for {silence_s:g} seconds",
                (_CHECK_URL, "Ask whether a firewall drops the packets."),
            )
        case socket.gaierror():
            return Trouble(
                f"its name is not known ({urlsplit(url).hostname})",
                ("Check the host in TOKENDANCE_BASE_URL (or --base-url) for a slip, and the DNS of this machine.",),
            )
        case ConnectionRefusedError():
            return Trouble(
                "nothing listens there (connection refused)",
                ("Check host and port in TOKENDANCE_BASE_URL (or --base-url), and that the gateway runs.",),
            )
        case RemoteDisconnected() | ConnectionResetError() | BrokenPipeError():
            return Trouble(
                "the connection was closed without an answer",
                ("If the port speaks TLS, write https://. If it is the gRPC port, name the one for REST.",),
            )
        case BadStatusLine():
            return Trouble(
                "what answers speaks no HTTP/1.1",
                ("If the port speaks TLS, write https://. If it is the gRPC port, name the one for REST.",),
            )
        case OSError() if cause.errno in (errno.ENETUNREACH, errno.EHOSTUNREACH):
            return Trouble("there is no way to it from this network", (_CHECK_URL,))
        case OSError() | HTTPException():
            strerror = cause.strerror if isinstance(cause, OSError) else None
            return Trouble(strerror or str(cause) or type(cause).__name__, (_CHECK_URL,))
        case _:
            return Trouble(str(cause), (_CHECK_URL,))


def _distrusted(error: ssl.SSLCertVerificationError) -> Trouble:
    # The codes are X.509's own: OpenSSL's words for them change.
    hints = {
        10: "It has expired, or the clock of this machine is wrong: compare `date -u`.",
        9: "It is not valid yet, or the clock of this machine is wrong: compare `date -u`.",
        62: "It was issued for another name: check the host in TOKENDANCE_BASE_URL (or --base-url).",
        64: "It was issued for another address: check the host in TOKENDANCE_BASE_URL (or --base-url).",
    }
    default = "If its issuer is your own, name the issuer's certificate in SSL_CERT_FILE. Never switch the check off."
    return Trouble(f"its certificate is not trusted ({error.verify_message})", (hints.get(error.verify_code, default),))
