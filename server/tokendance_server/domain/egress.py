"""Where the gateway may connect to: the one policy for every outbound address. It resolves nothing and opens nothing.

A URL is checked when it is configured, every address once more on each connect. What is not plainly a public address is
refused; an operator may open networks of their own, never the metadata services of clouds.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from functools import lru_cache
from urllib.parse import unquote

from tokendance_server.domain.keys.networks import Network

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_URL_CHARACTERS = 2048
_HOST_CHARACTERS = 253
# All that it takes and nothing more: two parsers read the same host out of what has no more than one reading.
_URL = re.compile(
    r"https?://(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::(?P<port>[1-9][0-9]{0,4}))?"
    r"(?P<path>[/?].*)?"
)
_PATH = re.compile(r"(?:[A-Za-z0-9._~!$&'()*+,;=:@/?-]|%[0-9A-Fa-f]{2})*")
_LABEL = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")
# A name that ends in a number is an IPv4 address to some resolvers: 2130706433, 0x7f.1, 017700000001, 127.1.
_NUMBER = re.compile(r"[0-9]+|0[xX][0-9A-Fa-f]*")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")

_LOOPBACK_NAMES = frozenset({"localhost", "localhost.localdomain", "ip6-localhost", "ip6-loopback"})
_METADATA_NAMES = frozenset({"metadata.google.internal", "metadata.goog", "instance-data.ec2.internal"})
_METADATA = frozenset(
    map(
        ipaddress.ip_address,
        (
            "169.254.169.254",  # nearly every cloud
            "169.254.170.2",  # credentials of containers
            "169.254.170.23",
            "100.100.100.200",
            "168.63.129.16",  # the only public one
            "192.0.0.192",
            "fd00:ec2::254",
            "fd00:ec2::23",
            "fd20:ce::254",
        ),
    )
)

_LOOPBACK = (ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1/128"))
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")

_OPENABLE: tuple[tuple[Network, str], ...] = tuple(
    (ipaddress.ip_network(network), kind)
    for network, kind in (
        ("10.0.0.0/8", "a private address"),
        ("172.16.0.0/12", "a private address"),
        ("192.168.0.0/16", "a private address"),
        ("100.64.0.0/10", "an address behind a carrier's NAT"),
        ("198.18.0.0/15", "an address for benchmarks"),
        ("fc00::/7", "a unique local address"),
        (str(_NAT64), "an IPv4 address behind NAT64"),
        *((str(network), "a loopback address") for network in _LOOPBACK),
    )
)
"""What an operator may open, in whole or in part."""

_CLOSED: tuple[tuple[Network, str], ...] = tuple(
    (ipaddress.ip_network(network), kind)
    for network, kind in (
        ("0.0.0.0/8", "an address of this host"),
        ("169.254.0.0/16", "a link-local address"),
        ("192.0.0.0/24", "reserved for protocols"),
        ("192.0.2.0/24", "an address for documentation"),
        ("198.51.100.0/24", "an address for documentation"),
        ("203.0.113.0/24", "an address for documentation"),
        ("192.88.99.0/24", "a relay of 6to4"),
        ("224.0.0.0/4", "a multicast address"),
        ("255.255.255.255/32", "the broadcast address"),
        ("240.0.0.0/4", "reserved"),
        ("::/128", "the unspecified address"),
        ("::ffff:0:0/96", "an IPv4 address in IPv6 form"),
        ("::ffff:0:0:0/96", "an IPv4 address in IPv6 form"),
        ("::/96", "an IPv4 address in IPv6 form"),
        ("64:ff9b:1::/48", "an IPv4 address behind NAT64"),
        ("2001::/32", "a Teredo address"),
        ("2001::/23", "reserved for protocols"),
        ("2001:db8::/32", "an address for documentation"),
        ("3fff::/20", "an address for documentation"),
        ("2002::/16", "a 6to4 address"),
        ("fe80::/10", "a link-local address"),
        ("fec0::/10", "a site-local address"),
        ("ff00::/8", "a multicast address"),
    )
)
# Of IPv6 only this much is handed out for the public; all else is refused without a name of its own.
_PUBLIC_V6 = ipaddress.IPv6Network("2000::/3")
_ISATAP = (0x00005EFE, 0x02005EFE)


class EgressRefusedError(OSError):
    """A URL or an address that the gateway does not connect to; the message says why, and what would open it.

    An OSError, because to an HTTP client it is a connection that does not come about. Its message is for the operator:
    it names the address.
    """


class EgressPolicy:
    """What may be connected to. Public addresses always; loopback and private networks where they are opened here.

    Raises ValueError for a network that cannot be opened: one that is not, as a whole, private or loopback.
    """

    def __init__(self, *, allow_loopback: bool = False, allowed_private: Iterable[Network] = ()) -> None:
        self.allow_loopback = allow_loopback
        self.allowed_private = tuple(allowed_private)
        for network in self.allowed_private:
            if not any(_within(network, openable) for openable, _ in _OPENABLE):
                openable = ", ".join(str(one) for one, _ in _OPENABLE)
                raise ValueError(f"{network} cannot be opened: only networks within {openable} can")
        self._why_not = lru_cache(maxsize=4096)(self._judge)

    def check_url(self, url: str) -> None:
        """Let an http or https URL pass whose host may be connected to, as far as its text tells; ports 1 to 65535.

        Raises EgressRefusedError for any other, and for a form that two parsers could read in two ways: userinfo,
        fragments, controls, backslashes, escaped or non-ASCII hosts, zones, IPv4 in any but its dotted form.
        """
        form = _URL.fullmatch(url)
        if form is None or len(url) > _URL_CHARACTERS or int(form["port"] or 80) > 65535:
            raise EgressRefusedError(
                "an address must be http:// or https:// with a host in ASCII, perhaps a port and a path, and no user, "
                "password, fragment, space, backslash or control character"
            )
        check_path(form["path"] or "")
        host = form["host"]
        if host.startswith("["):
            self.check_address(host[1:-1])
        elif _NUMBER.fullmatch(host.rpartition(".")[2]):
            self.check_address(host)
        else:
            self._check_name(host)

    def check_address(self, address: str) -> None:
        """Let a numeric IPv4 or IPv6 address pass that may be connected to. Raises EgressRefusedError otherwise."""
        why = self._why_not(address)
        if why is not None:
            raise EgressRefusedError(why)

    def _check_name(self, host: str) -> None:
        if len(host) > _HOST_CHARACTERS or not all(_LABEL.fullmatch(label) for label in host.split(".")):
            raise EgressRefusedError("the host is neither a name without a dot at its end nor a numeric address")
        name = host.lower()
        if name in _METADATA_NAMES:
            raise EgressRefusedError(f"{host} is a metadata service")
        if name in _LOOPBACK_NAMES or name.endswith(".localhost"):
            self.check_address("127.0.0.1")

    def _judge(self, text: str) -> str | None:
        """Return why this address is refused, or None."""
        try:
            address = ipaddress.ip_address(text)
        except ValueError:
            return f"{text[:64]!r} is no IP address in its plain form"
        if isinstance(address, ipaddress.IPv6Address) and address.scope_id is not None:
            return f"{text[:64]!r} has a zone"
        if address in _METADATA:
            return f"{address} is a metadata service"
        if self.allow_loopback and _is_in(address, _LOOPBACK):
            return None
        for network, kind in _OPENABLE:
            if address in network and not _is_in(address, self.allowed_private):
                return f"{address} is {kind}; {_advice(address)}"
        # Behind the translator lie the networks of others, so only what is public there is opened with it.
        if address in _NAT64 and not _is_public(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)):
            return f"{address} leads to an address behind NAT64 that is not public"
        closed = _closed(address)
        return f"{address} is {closed}" if closed and not _is_in(address, self.allowed_private) else None


def check_path(path: str) -> None:
    """Let the path and query of an outbound URL pass, with their escapes. Raises EgressRefusedError.

    Refused are characters that must be escaped, escaped controls, and segments that lead upwards in any spelling.
    """
    segments = unquote(path.partition("?")[0], errors="replace")
    if not _PATH.fullmatch(path) or _CONTROL.search(unquote(path, errors="replace")) or _leads_up(segments):
        raise EgressRefusedError("the path of an address must hold no '..', control or unescaped character")


def _leads_up(path: str) -> bool:
    return any(part in (".", "..") for part in path.replace("\\", "/").split("/"))


def _advice(address: Address) -> str:
    if _is_in(address, _LOOPBACK):
        return "to reach it, set allow_loopback = true in [server.egress]"
    return "to reach it, add its network to allow_private in [server.egress]"


def _is_public(address: Address) -> bool:
    return (
        address not in _METADATA
        and _closed(address) is None
        and not any(address in network for network, _ in _OPENABLE)
    )


def _closed(address: Address) -> str | None:
    """Return what an address is that nobody can open, or None."""
    for network, kind in _CLOSED:
        if address in network:
            return kind
    if isinstance(address, ipaddress.IPv6Address):
        if address not in _PUBLIC_V6:
            return "not a public address"
        if int(address) >> 32 & 0xFFFFFFFF in _ISATAP:
            return "an IPv4 address in IPv6 form"
    return None


def _is_in(address: Address, networks: Iterable[Network]) -> bool:
    return any(address in network for network in networks)


def _within(network: Network, larger: Network) -> bool:
    return (
        network.version == larger.version
        and network.prefixlen >= larger.prefixlen
        and network.network_address in larger
    )
